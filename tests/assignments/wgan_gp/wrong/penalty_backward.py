# breaks: gradient_penalty
# Uses backward, which also fills the critic's .grad.
# %% gradient_penalty
def gradient_penalty(critic, real, fake, interpolate):
    points = interpolate(real, fake)
    points.retain_grad()
    critic(points).sum().backward(create_graph=True)
    gradient = points.grad
    norms = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return ((norms - 1) ** 2).mean()
