# breaks: generator_loss
# A sum over the batch instead of the mean.
# %% generator_loss
def generator_loss(fake_logits):
    return F.softplus(-fake_logits).sum()
