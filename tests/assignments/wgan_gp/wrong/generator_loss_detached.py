# breaks: generator_loss
# Detached: nothing to learn from.
# %% generator_loss
def generator_loss(fake_scores):
    return -fake_scores.detach().mean()
