# breaks: gradient_penalty
# ganlib's norms of the gradient.
# %% gradient_penalty
from ganlib.losses.penalties import gradient_norms


def gradient_penalty(critic, real, fake, interpolate):
    return ((gradient_norms(critic, interpolate(real, fake)) - 1) ** 2).mean()
