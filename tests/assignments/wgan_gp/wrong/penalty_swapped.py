# breaks: gradient_penalty
# Passes fake and real in the wrong order.
# %% gradient_penalty
def gradient_penalty(critic, real, fake, interpolate):
    points = interpolate(fake, real)
    (gradient,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    norms = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return ((norms - 1) ** 2).mean()
