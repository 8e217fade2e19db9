# breaks: discriminator_loss
# Returns a Python float, through which no gradient flows.
# %% discriminator_loss
def discriminator_loss(real_logits, fake_logits):
    return (F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()).item()
