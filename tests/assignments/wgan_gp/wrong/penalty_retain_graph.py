# breaks: gradient_penalty
# retain_graph in place of create_graph.
# %% gradient_penalty
def gradient_penalty(critic, real, fake, interpolate):
    points = interpolate(real, fake)
    (gradient,) = torch.autograd.grad(critic(points).sum(), points, retain_graph=True)
    norms = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return ((norms - 1) ** 2).mean()
