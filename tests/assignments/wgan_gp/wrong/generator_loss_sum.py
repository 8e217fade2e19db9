# breaks: generator_loss
# Sums over the batch.
# %% generator_loss
def generator_loss(fake_scores):
    return -fake_scores.sum()
