# breaks: critic_loss
# Real and fake swapped: minimising closes the gap.
# %% critic_loss
def critic_loss(real_scores, fake_scores, penalty, weight=10.0):
    return real_scores.mean() - fake_scores.mean() + weight * penalty
