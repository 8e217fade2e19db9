# breaks: generator_loss
# The Wasserstein loss.
# %% generator_loss
def generator_loss(fake_logits):
    return -fake_logits.mean()
