# breaks: discriminator
# ganlib's discriminator under another name: it is made for other images.
# %% discriminator
from ganlib.models.dcgan import Discriminator


def build_discriminator(width=32):
    return Discriminator(width)
