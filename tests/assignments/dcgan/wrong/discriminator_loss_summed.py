# breaks: discriminator_loss
# Sums over the batch instead of means.
# %% discriminator_loss
def discriminator_loss(real_logits, fake_logits):
    return F.softplus(-real_logits).sum() + F.softplus(fake_logits).sum()
