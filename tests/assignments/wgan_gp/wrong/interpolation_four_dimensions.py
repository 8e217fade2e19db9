# breaks: interpolation
# Takes four dimensions for granted.
# %% interpolation
def interpolate(real, fake):
    shape = (len(real), 1, 1, 1)
    epsilon = torch.rand(shape, dtype=real.dtype, device=real.device)
    points = epsilon * real + (1 - epsilon) * fake
    return points.detach().requires_grad_()
