# breaks: interpolation
# Weights in [-1, 1], as the images are.
# %% interpolation
def interpolate(real, fake):
    shape = (len(real), *[1] * (real.ndim - 1))
    epsilon = torch.rand(shape, dtype=real.dtype) * 2 - 1
    points = epsilon * real + (1 - epsilon) * fake
    return points.detach().requires_grad_()
