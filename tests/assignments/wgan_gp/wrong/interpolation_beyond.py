# breaks: interpolation
# Weights in [0, 2]: points beyond the real image.
# %% interpolation
def interpolate(real, fake):
    shape = (len(real), *[1] * (real.ndim - 1))
    epsilon = 2 * torch.rand(shape, dtype=real.dtype, device=real.device)
    points = epsilon * real + (1 - epsilon) * fake
    return points.detach().requires_grad_()
