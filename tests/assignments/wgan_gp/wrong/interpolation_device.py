# breaks: interpolation
# Draws the weights on the CPU, wherever the images are.
# %% interpolation
def interpolate(real, fake):
    shape = (len(real), *[1] * (real.ndim - 1))
    epsilon = torch.rand(shape, dtype=real.dtype)
    points = epsilon * real + (1 - epsilon) * fake
    return points.detach().requires_grad_()
