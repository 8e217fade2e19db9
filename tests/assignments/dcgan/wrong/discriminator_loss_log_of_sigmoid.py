# breaks: discriminator_loss
# The formula as it stands: infinite for large logits.
# %% discriminator_loss
def discriminator_loss(real_logits, fake_logits):
    return -torch.log(torch.sigmoid(real_logits)).mean() - torch.log(1 - torch.sigmoid(fake_logits)).mean()
