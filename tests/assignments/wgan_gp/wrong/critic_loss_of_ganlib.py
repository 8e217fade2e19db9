# breaks: critic_loss
# ganlib's loss.
# %% critic_loss
from ganlib.losses import Wasserstein


def critic_loss(real_scores, fake_scores, penalty, weight=10.0):
    return Wasserstein().discriminator(real_scores, fake_scores) + weight * penalty
