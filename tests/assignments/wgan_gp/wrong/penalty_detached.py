# breaks: gradient_penalty
# The norms are detached: no gradient reaches the critic.
# %% gradient_penalty
def gradient_penalty(critic, real, fake, interpolate):
    points = interpolate(real, fake)
    (gradient,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    norms = torch.linalg.vector_norm(gradient.detach().flatten(1), dim=1)
    return ((norms - 1) ** 2).mean()
