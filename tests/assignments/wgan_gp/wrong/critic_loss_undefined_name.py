# breaks: critic_loss
# The cell raises when it is run.
# %% critic_loss
scale = undefined_scale
def critic_loss(real_scores, fake_scores, penalty, weight=10.0):
    return fake_scores.mean() - real_scores.mean() + weight * penalty
