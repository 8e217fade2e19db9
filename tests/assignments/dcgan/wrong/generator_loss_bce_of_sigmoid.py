# breaks: generator_loss
# A sigmoid, then the cross-entropy of probabilities: no gradient at -200.
# %% generator_loss
def generator_loss(fake_logits):
    fake = torch.sigmoid(fake_logits)
    return F.binary_cross_entropy(fake, torch.ones_like(fake))
