# breaks: initialization
# Makes new tensors and leaves the parameters as they are.
# %% initialization
def initialize_(module):
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            torch.normal(0.0, 0.02, layer.weight.shape)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            torch.normal(1.0, 0.02, layer.weight.shape)
            nn.init.zeros_(layer.bias)
