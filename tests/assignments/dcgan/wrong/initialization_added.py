# breaks: initialization
# Adds the random numbers to what is there: initialised twice.
# %% initialization
@torch.no_grad()
def initialize_(module):
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)):
            layer.weight.add_(0.02 * torch.randn_like(layer.weight))
            if layer.bias is not None:
                layer.bias.zero_()
