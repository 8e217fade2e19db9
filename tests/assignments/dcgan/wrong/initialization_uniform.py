# breaks: initialization
# Uniform numbers of the right deviation.
# %% initialization
def initialize_(module):
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.uniform_(layer.weight, -0.02 * 3**0.5, 0.02 * 3**0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
            nn.init.zeros_(layer.bias)
