# breaks: discriminator_loss
# A sigmoid before a loss that takes logits.
# %% discriminator_loss
def discriminator_loss(real_logits, fake_logits):
    real, fake = torch.sigmoid(real_logits), torch.sigmoid(fake_logits)
    real_loss = F.binary_cross_entropy_with_logits(real, torch.ones_like(real))
    return real_loss + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
