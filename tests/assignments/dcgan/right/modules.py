# Own modules with functional activations, biases everywhere, kernels of other sizes.
# %% generator
class Generator(nn.Module):
    def __init__(self, latent_dim, width):
        super().__init__()
        self.project = nn.ConvTranspose2d(latent_dim, 2 * width, 7)
        self.norm1 = nn.BatchNorm2d(2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 5, stride=2, padding=2, output_padding=1)
        self.norm2 = nn.BatchNorm2d(width)
        self.up2 = nn.ConvTranspose2d(width, 1, 2, stride=2)

    def forward(self, z):
        x = F.relu(self.norm1(self.project(z[:, :, None, None])))
        x = F.relu(self.norm2(self.up1(x)))
        return torch.tanh(self.up2(x))


def build_generator(latent_dim=64, width=32):
    return Generator(latent_dim, width)


# %% discriminator
class Discriminator(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.down1 = nn.Conv2d(1, width, 5, stride=2, padding=2)
        self.down2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(2 * width)
        self.judge = nn.Conv2d(2 * width, 1, 7)

    def forward(self, x):
        x = F.leaky_relu(self.down1(x), 0.2, inplace=True)
        x = F.leaky_relu(self.norm(self.down2(x)), negative_slope=0.2)
        return self.judge(x).view(-1)


def build_discriminator(width=32):
    return Discriminator(width)


# %% initialization
def initialize_(module):
    def initialize_layer(layer):
        name = layer.__class__.__name__
        if name.startswith("Conv"):
            layer.weight.data.normal_(0.0, 0.02)
            if layer.bias is not None:
                layer.bias.data.fill_(0)
        elif name.startswith("BatchNorm"):
            layer.weight.data.normal_(1.0, 0.02)
            layer.bias.data.fill_(0)

    module.apply(initialize_layer)
