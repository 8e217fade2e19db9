# breaks: discriminator_loss
# The two means are averaged instead of added.
# %% discriminator_loss
def discriminator_loss(real_logits, fake_logits):
    return (F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()) / 2
