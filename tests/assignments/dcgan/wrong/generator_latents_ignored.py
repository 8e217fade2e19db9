# breaks: generator
# Draws its latents itself.
# %% generator
def stack(latent_dim=64, width=32):
    return nn.Sequential(
        nn.Unflatten(1, (latent_dim, 1, 1)),
        nn.ConvTranspose2d(latent_dim, 2 * width, 7, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.ConvTranspose2d(width, 1, 4, stride=2, padding=1),
        nn.Tanh(),
    )


class Network(nn.Module):
    def __init__(self, *sizes):
        super().__init__()
        self.stack = stack(*sizes)

    def forward(self, x):
        return self.stack(torch.randn_like(x))


def build_generator(latent_dim=64, width=32):
    return Network(latent_dim, width)
