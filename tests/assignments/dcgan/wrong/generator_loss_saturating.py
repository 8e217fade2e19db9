# breaks: generator_loss
# The minimax loss, whose slope vanishes where D is sure.
# %% generator_loss
def generator_loss(fake_logits):
    return -F.softplus(fake_logits).mean()
