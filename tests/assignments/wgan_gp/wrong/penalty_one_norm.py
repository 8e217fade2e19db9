# breaks: gradient_penalty
# The 1-norm of the gradient.
# %% gradient_penalty
def gradient_penalty(critic, real, fake, interpolate):
    points = interpolate(real, fake)
    (gradient,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    norms = gradient.flatten(1).abs().sum(1)
    return ((norms - 1) ** 2).mean()
