# Parameters and functions in place of layers; lerp, einsum, arithmetic by hand.
# %% critic
class Scores(nn.Module):
    def __init__(self, width):
        super().__init__()
        channels = (1, width, 2 * width, 4 * width)
        self.kernels = nn.ParameterList(
            nn.Parameter(torch.randn(b, a, 5, 5) / (5 * a**0.5))
            for a, b in zip(channels, channels[1:], strict=False)
        )
        self.readout = nn.Parameter(torch.randn(4 * width, 4, 4) / (16 * width) ** 0.5)

    def forward(self, x):
        for kernel in self.kernels:
            x = nn.functional.leaky_relu(nn.functional.conv2d(x, kernel, stride=2, padding=2), 0.2)
        return torch.einsum("nchw,chw->n", x, self.readout)


def build_critic(width=32):
    return Scores(width)
# %% interpolation
def interpolate(real, fake):
    with torch.no_grad():
        t = real.new_empty(real.shape[0]).uniform_()
        between = torch.lerp(fake, real, t.view([-1] + [1] * (real.dim() - 1)))
    return between.requires_grad_(True)
# %% gradient_penalty
def gradient_penalty(critic, real, fake, interpolate):
    x = interpolate(real, fake)
    scores = critic(x)
    slopes = torch.autograd.grad(scores, x, torch.ones_like(scores), create_graph=True, retain_graph=True)[0]
    flat = slopes.reshape(len(x), -1)
    lengths = (torch.einsum("ni,ni->n", flat, flat) + 1e-12) ** 0.5
    return torch.mean(torch.square(1 - lengths))
# %% critic_loss
def critic_loss(real_scores, fake_scores, penalty, weight=10.0):
    distance = real_scores.sum() / len(real_scores) - fake_scores.sum() / len(fake_scores)
    return torch.add(penalty * weight, distance, alpha=-1)
# %% generator_loss
def generator_loss(fake_scores):
    return torch.neg(torch.einsum("n->", fake_scores)) / fake_scores.numel()
