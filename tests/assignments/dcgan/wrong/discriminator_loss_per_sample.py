# breaks: discriminator_loss
# One loss per sample, not reduced.
# %% discriminator_loss
def discriminator_loss(real_logits, fake_logits):
    return F.softplus(-real_logits) + F.softplus(fake_logits)
