# breaks: discriminator_loss
# An epsilon inside the logarithm: finite, but without a gradient for large logits.
# %% discriminator_loss
def discriminator_loss(real_logits, fake_logits):
    real, fake = torch.sigmoid(real_logits), torch.sigmoid(fake_logits)
    return -torch.log(real + 1e-8).mean() - torch.log(1 - fake + 1e-8).mean()
