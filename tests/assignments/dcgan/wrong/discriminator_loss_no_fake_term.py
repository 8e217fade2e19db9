# breaks: discriminator_loss
# The fake term is missing.
# %% discriminator_loss
def discriminator_loss(real_logits, fake_logits):
    return F.softplus(-real_logits).mean()
