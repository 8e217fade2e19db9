# breaks: gradient_penalty
# One norm over the whole batch.
# %% gradient_penalty
def gradient_penalty(critic, real, fake, interpolate):
    points = interpolate(real, fake)
    (gradient,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    norms = gradient.norm(2)
    return ((norms - 1) ** 2).mean()
