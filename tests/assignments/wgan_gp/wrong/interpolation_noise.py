# breaks: interpolation
# Noise around the real images in place of points on the line (DRAGAN).
# %% interpolation
def interpolate(real, fake):
    shape = (len(real), *[1] * (real.ndim - 1))
    epsilon = torch.rand(shape, dtype=real.dtype, device=real.device)
    points = real + 0.5 * real.std() * torch.rand_like(real)
    return points.detach().requires_grad_()
