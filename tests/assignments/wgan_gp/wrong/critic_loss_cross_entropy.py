# breaks: critic_loss
# The discriminator's loss of a DCGAN.
# %% critic_loss
def critic_loss(real_scores, fake_scores, penalty, weight=10.0):
    return nn.functional.softplus(fake_scores).mean() + nn.functional.softplus(-real_scores).mean() + weight * penalty
