# breaks: gradient_penalty
# Sums over three dimensions, whatever the samples have.
# %% gradient_penalty
def gradient_penalty(critic, real, fake, interpolate):
    points = interpolate(real, fake)
    (gradient,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    norms = (gradient.pow(2).sum(dim=(1, 2, 3)) + 1e-12).sqrt()
    return ((norms - 1) ** 2).mean()
