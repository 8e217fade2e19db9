# breaks: critic_loss
# lambda is written in; the argument does nothing.
# %% critic_loss
def critic_loss(real_scores, fake_scores, penalty, weight=10.0):
    return fake_scores.mean() - real_scores.mean() + 10 * penalty
