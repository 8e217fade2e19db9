# Layer and group norm, which see one image at a time; another depth, smooth activations, a linear end.
# %% critic
def build_critic(width=32):
    layers = [nn.Conv2d(1, width, 3, padding=1), nn.SiLU()]
    for depth in range(3):
        channels = width * 2**depth
        layers += [
            nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1),
            nn.GroupNorm(1, 2 * channels),
            nn.SiLU(),
        ]
    return nn.Sequential(*layers, nn.Flatten(), nn.LayerNorm(8 * width * 9), nn.Linear(8 * width * 9, 1), nn.Flatten(0))
