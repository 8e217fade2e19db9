# breaks: gradient_penalty
# Takes the slope at the fake images.
# %% gradient_penalty
def gradient_penalty(critic, real, fake, interpolate):
    points = fake.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    norms = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return ((norms - 1) ** 2).mean()
