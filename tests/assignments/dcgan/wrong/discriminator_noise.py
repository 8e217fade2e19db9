# breaks: discriminator
# Adds noise of torch's default dtype to its input.
# %% discriminator
def stack(width=32):
    return nn.Sequential(
        nn.Conv2d(1, width, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.LeakyReLU(0.2),
        nn.Conv2d(2 * width, 1, 7),
        nn.Flatten(0),
    )


class Network(nn.Module):
    def __init__(self, *sizes):
        super().__init__()
        self.stack = stack(*sizes)

    def forward(self, x):
        return self.stack(x + 0.1 * torch.randn(x.shape))


def build_discriminator(width=32):
    return Network(width)
