# breaks: interpolation
# Weights in [0, 1] that are not uniform.
# %% interpolation
def interpolate(real, fake):
    shape = (len(real), *[1] * (real.ndim - 1))
    epsilon = torch.rand(shape, dtype=real.dtype, device=real.device) ** 2
    points = epsilon * real + (1 - epsilon) * fake
    return points.detach().requires_grad_()
