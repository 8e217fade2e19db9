# breaks: gradient_penalty
# No create_graph: the penalty is a constant for the critic.
# %% gradient_penalty
def gradient_penalty(critic, real, fake, interpolate):
    points = interpolate(real, fake)
    (gradient,) = torch.autograd.grad(critic(points).sum(), points)
    norms = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return ((norms - 1) ** 2).mean()
