# breaks: generator_loss
# An epsilon inside the logarithm: the slope at -30 is lost.
# %% generator_loss
def generator_loss(fake_logits):
    return -torch.log(torch.sigmoid(fake_logits) + 1e-8).mean()
