# A DCGAN discriminator without its batch norm, weights N(0, 0.02).
# %% critic
class Critic(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, width, 4, 2, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.LeakyReLU(0.2, inplace=True),
        )
        self.head = nn.Conv2d(2 * width, 1, 7)
        self.apply(self.start)

    @staticmethod
    def start(module):
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0.0, 0.02)

    def forward(self, images):
        return self.head(self.body(images)).view(-1)


def build_critic(width=32):
    return Critic(width)
