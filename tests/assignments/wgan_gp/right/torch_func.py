# Per-sample gradients by torch.func; a critic on an expanded view of them.
# %% gradient_penalty
def gradient_penalty(critic, real, fake, interpolate):
    def score(sample):
        return critic(sample[None])[0]

    gradients = torch.func.vmap(torch.func.grad(score))(interpolate(real, fake))
    return gradients.flatten(1).norm(dim=1).sub(1).square().mean()
# %% interpolation
def interpolate(real, fake):
    weights = torch.distributions.Uniform(0, 1).sample((len(real),)).to(real)
    mixed = torch.stack([w * a + (1 - w) * b for w, a, b in zip(weights, real, fake, strict=True)])
    mixed = mixed.detach()
    mixed.requires_grad = True
    return mixed
