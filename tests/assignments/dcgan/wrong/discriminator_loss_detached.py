# breaks: discriminator_loss
# The fake logits are detached inside the loss.
# %% discriminator_loss
def discriminator_loss(real_logits, fake_logits):
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits.detach()).mean()
