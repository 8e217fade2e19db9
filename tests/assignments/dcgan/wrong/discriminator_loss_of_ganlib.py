# breaks: discriminator_loss
# ganlib's losses.
# %% discriminator_loss
import ganlib.losses


def discriminator_loss(real_logits, fake_logits):
    return ganlib.losses.NonSaturating().discriminator(real_logits, fake_logits)
