# breaks: generator_loss
# Fakes labelled as fake: the discriminator's term.
# %% generator_loss
def generator_loss(fake_logits):
    return F.softplus(fake_logits).mean()
