# breaks: interpolation
# Weights in the default dtype turn half precision into float32.
# %% interpolation
def interpolate(real, fake):
    shape = (len(real), *[1] * (real.ndim - 1))
    epsilon = torch.rand(shape)
    points = epsilon * real + (1 - epsilon) * fake
    return points.detach().requires_grad_()
