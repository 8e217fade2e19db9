# breaks: interpolation
# A weight for every pixel: the points leave the line.
# %% interpolation
def interpolate(real, fake):
    shape = (len(real), *[1] * (real.ndim - 1))
    epsilon = torch.rand_like(real)
    points = epsilon * real + (1 - epsilon) * fake
    return points.detach().requires_grad_()
