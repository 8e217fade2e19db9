# breaks: interpolation
# Resets the global seed: the same weights in every call.
# %% interpolation
def interpolate(real, fake):
    torch.manual_seed(42)
    shape = (len(real), *[1] * (real.ndim - 1))
    epsilon = torch.rand(shape, dtype=real.dtype, device=real.device)
    points = epsilon * real + (1 - epsilon) * fake
    return points.detach().requires_grad_()
