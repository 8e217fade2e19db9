# breaks: generator
# Upsampling and convolutions instead of transposed convolutions.
# %% generator
def build_generator(latent_dim=64, width=32):
    return nn.Sequential(
        nn.Unflatten(1, (latent_dim, 1, 1)),
        nn.Upsample(scale_factor=7),
        nn.Conv2d(latent_dim, 2 * width, 3, padding=1),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(2 * width, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(width, 1, 3, padding=1),
        nn.Tanh(),
    )
