# breaks: discriminator_loss
# One mean over the concatenated batch, times two: wrong for unequal batches.
# %% discriminator_loss
def discriminator_loss(real_logits, fake_logits):
    return 2 * F.softplus(torch.cat([-real_logits.flatten(), fake_logits.flatten()])).mean()
