# breaks: interpolation
# Draws 64 weights, whatever the batch.
# %% interpolation
def interpolate(real, fake):
    shape = (64, *[1] * (real.ndim - 1))
    epsilon = torch.rand(shape, dtype=real.dtype, device=real.device)
    points = epsilon * real + (1 - epsilon) * fake
    return points.detach().requires_grad_()
