# breaks: critic
# ganlib's critic under another name: it is made for other images.
# %% critic
from ganlib.models.wgan_gp import Critic


def build_critic(width=32):
    return Critic(width)
