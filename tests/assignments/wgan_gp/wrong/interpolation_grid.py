# breaks: interpolation
# Evenly spaced weights, the same in each call.
# %% interpolation
def interpolate(real, fake):
    shape = (len(real), *[1] * (real.ndim - 1))
    epsilon = torch.linspace(0, 1, len(real), dtype=real.dtype, device=real.device).view(shape)
    points = epsilon * real + (1 - epsilon) * fake
    return points.detach().requires_grad_()
