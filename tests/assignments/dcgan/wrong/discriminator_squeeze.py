# breaks: discriminator
# A bare squeeze: a batch of one loses its batch dimension.
# %% discriminator
class Discriminator(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 7),
        )

    def forward(self, x):
        return self.layers(x).squeeze()


def build_discriminator(width=32):
    return Discriminator(width)
