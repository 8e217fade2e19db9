# breaks: generator
# ganlib's generator under another name: it is made for other images.
# %% generator
from ganlib.models.dcgan import Generator


def build_generator(latent_dim=64, width=32):
    return Generator(latent_dim, width)
