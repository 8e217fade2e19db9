# breaks: interpolation
# Normal instead of uniform weights: points beyond both ends.
# %% interpolation
def interpolate(real, fake):
    shape = (len(real), *[1] * (real.ndim - 1))
    epsilon = torch.randn(shape, dtype=real.dtype, device=real.device)
    points = epsilon * real + (1 - epsilon) * fake
    return points.detach().requires_grad_()
