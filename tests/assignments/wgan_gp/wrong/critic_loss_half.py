# breaks: critic_loss
# The two means are averaged.
# %% critic_loss
def critic_loss(real_scores, fake_scores, penalty, weight=10.0):
    return (fake_scores.mean() - real_scores.mean()) / 2 + weight * penalty
