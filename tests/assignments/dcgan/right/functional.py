# Bare parameters and torch.nn.functional: no layer modules at all.
# %% generator
class Generator(nn.Module):
    def __init__(self, latent_dim, width):
        super().__init__()
        sizes = [latent_dim, 2 * width, width, 1]
        kernels = [7, 4, 4]
        self.kernels = nn.ParameterList(
            nn.Parameter(torch.randn(a, b, k, k) / (a * k) ** 0.5)
            for a, b, k in zip(sizes[:-1], sizes[1:], kernels, strict=True)
        )
        self.scales = nn.ParameterList(nn.Parameter(torch.ones(c)) for c in sizes[1:3])
        self.shifts = nn.ParameterList(nn.Parameter(torch.zeros(c)) for c in sizes[1:3])
        for i, c in enumerate(sizes[1:3]):
            self.register_buffer(f"mean{i}", torch.zeros(c))
            self.register_buffer(f"var{i}", torch.ones(c))

    def norm(self, x, i):
        mean, var = getattr(self, f"mean{i}"), getattr(self, f"var{i}")
        return F.batch_norm(x, mean, var, self.scales[i], self.shifts[i], training=self.training)

    def forward(self, z):
        x = F.conv_transpose2d(z.reshape(len(z), -1, 1, 1), self.kernels[0])
        x = self.norm(x, 0).relu()
        x = F.conv_transpose2d(x, self.kernels[1], stride=2, padding=1)
        x = self.norm(x, 1).relu_()
        return F.conv_transpose2d(x, self.kernels[2], stride=2, padding=1).tanh()


def build_generator(latent_dim=64, width=32):
    return Generator(latent_dim, width)


# %% initialization
@torch.no_grad()
def initialize_(module):
    for child in module.children():
        initialize_(child)
    if isinstance(module, nn.BatchNorm2d):
        module.weight.copy_(1 + 0.02 * torch.randn_like(module.weight))
        module.bias.zero_()
    elif isinstance(module, nn.modules.conv._ConvNd):
        module.weight.copy_(0.02 * torch.randn_like(module.weight))
        if module.bias is not None:
            module.bias.zero_()
    return module


# %% discriminator_loss
def discriminator_loss(real_logits, fake_logits):
    real = torch.logaddexp(torch.zeros_like(real_logits), -real_logits)
    fake = torch.logaddexp(torch.zeros_like(fake_logits), fake_logits)
    return real.mean() + fake.mean()


# %% generator_loss
def generator_loss(fake_logits):
    return torch.logaddexp(torch.zeros_like(fake_logits), -fake_logits).mean()
