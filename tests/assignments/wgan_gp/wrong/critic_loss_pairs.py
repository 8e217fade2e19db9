# breaks: critic_loss
# Subtracts score from score: needs batches of one size.
# %% critic_loss
def critic_loss(real_scores, fake_scores, penalty, weight=10.0):
    return (fake_scores - real_scores).mean() + weight * penalty
