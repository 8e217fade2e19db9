# breaks: critic
# A renamed copy of ganlib's critic: it is made for other images.
# %% critic
class MyCritic(nn.Module):
    def __init__(self, width=64, channels=1, size=32):
        super().__init__()
        layers = []
        inputs = channels
        for level, outputs in enumerate(width * 2**level for level in range(size.bit_length() - 3)):
            layers += [
                nn.Conv2d(inputs, outputs, 4, 2, 1, bias=True),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            inputs = outputs
        layers += [nn.Conv2d(inputs, 1, 4), nn.Flatten(0)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)


def build_critic(width=32):
    return MyCritic(width)
