# A fully connected critic with the weights of Radford's rules: the contract does not ask for convolutions.
# %% critic
def build_critic(width=32):
    critic = nn.Sequential(
        nn.Flatten(),
        nn.Linear(28 * 28, 8 * width),
        nn.ReLU(),
        nn.Linear(8 * width, 8 * width),
        nn.ReLU(),
        nn.Linear(8 * width, 1),
        nn.Flatten(0),
    )
    for layer in critic:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.02)
            nn.init.zeros_(layer.bias)
    return critic
# %% interpolation
def interpolate(real, fake):
    n = real.size(0)
    eps = torch.rand(n).to(device=real.device, dtype=real.dtype)
    flat = eps[:, None] * fake.detach().reshape(n, -1) + (1 - eps)[:, None] * real.detach().reshape(n, -1)
    return flat.reshape(real.shape).requires_grad_()
