# breaks: interpolation
# A weight for every channel of a sample.
# %% interpolation
def interpolate(real, fake):
    shape = (len(real), *[1] * (real.ndim - 1))
    epsilon = torch.rand((*real.shape[:2], *[1] * (real.ndim - 2)), dtype=real.dtype)
    points = epsilon * real + (1 - epsilon) * fake
    return points.detach().requires_grad_()
