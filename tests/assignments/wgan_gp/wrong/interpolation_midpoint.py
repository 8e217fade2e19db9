# breaks: interpolation
# Always the middle of the line.
# %% interpolation
def interpolate(real, fake):
    shape = (len(real), *[1] * (real.ndim - 1))
    epsilon = torch.full(shape, 0.5, dtype=real.dtype)
    points = epsilon * real + (1 - epsilon) * fake
    return points.detach().requires_grad_()
