# breaks: critic_loss
# Sums over the batch.
# %% critic_loss
def critic_loss(real_scores, fake_scores, penalty, weight=10.0):
    return fake_scores.sum() - real_scores.sum() + weight * penalty
