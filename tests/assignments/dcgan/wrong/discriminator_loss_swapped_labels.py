# breaks: discriminator_loss
# Real and fake change places.
# %% discriminator_loss
def discriminator_loss(real_logits, fake_logits):
    return F.softplus(real_logits).mean() + F.softplus(-fake_logits).mean()
