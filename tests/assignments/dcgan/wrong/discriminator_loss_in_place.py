# breaks: discriminator_loss
# Changes its arguments.
# %% discriminator_loss
def discriminator_loss(real_logits, fake_logits):
    return F.softplus(real_logits.data.neg_()).mean() + F.softplus(fake_logits).mean()
