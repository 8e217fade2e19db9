# breaks: interpolation
# Overwrites the batch of real images.
# %% interpolation
def interpolate(real, fake):
    shape = (len(real), *[1] * (real.ndim - 1))
    epsilon = torch.rand(shape, dtype=real.dtype, device=real.device)
    points = real.mul_(epsilon).add_((1 - epsilon) * fake)
    return points.detach().requires_grad_()
