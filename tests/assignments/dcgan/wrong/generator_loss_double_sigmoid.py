# breaks: generator_loss
# A sigmoid before a loss that takes logits.
# %% generator_loss
def generator_loss(fake_logits):
    return F.softplus(-torch.sigmoid(fake_logits)).mean()
