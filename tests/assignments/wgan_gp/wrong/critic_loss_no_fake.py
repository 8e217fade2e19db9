# breaks: critic_loss
# The fake term is missing.
# %% critic_loss
def critic_loss(real_scores, fake_scores, penalty, weight=10.0):
    return -real_scores.mean() + weight * penalty
