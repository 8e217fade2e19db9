# breaks: generator_loss
# The non-saturating loss of a DCGAN.
# %% generator_loss
def generator_loss(fake_scores):
    return nn.functional.softplus(-fake_scores).mean()
