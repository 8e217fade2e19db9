# breaks: interpolation
# The points require no gradient.
# %% interpolation
def interpolate(real, fake):
    shape = (len(real), *[1] * (real.ndim - 1))
    epsilon = torch.rand(shape, dtype=real.dtype, device=real.device)
    points = epsilon * real + (1 - epsilon) * fake
    return points.detach()
