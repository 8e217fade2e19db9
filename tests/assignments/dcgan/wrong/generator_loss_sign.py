# breaks: generator_loss
# Ascends: the negative loss.
# %% generator_loss
def generator_loss(fake_logits):
    return -F.softplus(-fake_logits).mean()
