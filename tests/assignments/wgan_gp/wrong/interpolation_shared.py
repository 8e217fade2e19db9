# breaks: interpolation
# One weight for the whole batch.
# %% interpolation
def interpolate(real, fake):
    shape = (len(real), *[1] * (real.ndim - 1))
    epsilon = torch.rand((), dtype=real.dtype)
    points = epsilon * real + (1 - epsilon) * fake
    return points.detach().requires_grad_()
