# breaks: generator
# A renamed copy of ganlib's generator: it is made for other images.
# %% generator
class MyGenerator(nn.Module):
    def __init__(self, latent_dim=100, width=64, channels=1, size=32):
        super().__init__()
        levels = [width * 2**level for level in range(size.bit_length() - 3)][::-1]
        layers = [nn.Unflatten(1, (latent_dim, 1, 1))]
        inputs, stride, padding = latent_dim, 1, 0
        for outputs in levels:
            layers += [
                nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
            inputs, stride, padding = outputs, 2, 1
        layers += [nn.ConvTranspose2d(inputs, channels, 4, 2, 1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, z):
        return self.layers(z)


def build_generator(latent_dim=64, width=32):
    return MyGenerator(latent_dim, width)
