# breaks: gradient_penalty
# A bare square root: NaN where the critic is flat.
# %% gradient_penalty
def gradient_penalty(critic, real, fake, interpolate):
    points = interpolate(real, fake)
    (gradient,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    norms = gradient.flatten(1).pow(2).sum(1).sqrt()
    return ((norms - 1) ** 2).mean()
