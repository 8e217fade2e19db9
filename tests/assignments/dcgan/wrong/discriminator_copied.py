# breaks: discriminator
# A renamed copy of ganlib's discriminator: it is made for other images.
# %% discriminator
class MyDiscriminator(nn.Module):
    def __init__(self, width=64, channels=1, size=32):
        super().__init__()
        layers = []
        inputs = channels
        for level, outputs in enumerate(width * 2**level for level in range(size.bit_length() - 3)):
            layers += [
                nn.Conv2d(inputs, outputs, 4, 2, 1, bias=level == 0),
                *([nn.BatchNorm2d(outputs)] if level else []),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            inputs = outputs
        layers += [nn.Conv2d(inputs, 1, 4), nn.Flatten(0)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)


def build_discriminator(width=32):
    return MyDiscriminator(width)
