# breaks: critic
# Divides by the batch's largest value.
# %% critic
def stack(width=32):
    return nn.Sequential(
        nn.Conv2d(1, width, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(4 * width, 1, 4),
        nn.Flatten(0),
    )


class Network(nn.Module):
    def __init__(self, *sizes):
        super().__init__()
        self.stack = stack(*sizes)

    def forward(self, x):
        return self.stack(x / x.abs().max())


def build_critic(width=32):
    return Network(width)
