# breaks: discriminator_loss
# Labels for a batch of 64, whatever comes.
# %% discriminator_loss
def discriminator_loss(real_logits, fake_logits):
    loss = nn.BCEWithLogitsLoss()
    return loss(real_logits, torch.ones(64)) + loss(fake_logits, torch.zeros(64))
