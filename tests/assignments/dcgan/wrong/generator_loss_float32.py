# breaks: generator_loss
# Casts to float32.
# %% generator_loss
def generator_loss(fake_logits):
    return F.softplus(-fake_logits.float()).mean()
