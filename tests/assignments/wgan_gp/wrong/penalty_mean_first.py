# breaks: gradient_penalty
# (mean slope - 1)^2: steep here and flat there goes unpunished.
# %% gradient_penalty
def gradient_penalty(critic, real, fake, interpolate):
    points = interpolate(real, fake)
    (gradient,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    norms = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return (norms.mean() - 1) ** 2
