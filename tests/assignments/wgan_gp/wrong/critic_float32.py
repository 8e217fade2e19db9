# breaks: critic
# Casts to float32 inside: the network cannot be moved to another dtype.
# %% critic
class Critic(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(2 * width * 7 * 7, 1),
        )

    def forward(self, x):
        return self.layers(x.float()).squeeze(1)


def build_critic(width=32):
    return Critic(width)
