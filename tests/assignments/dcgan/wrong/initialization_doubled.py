# breaks: initialization
# Goes down into the children of modules(), too: most layers get the sum of several draws.
# %% initialization
@torch.no_grad()
def initialize_(module):
    drawn = set()
    for block in module.modules():
        for layer in block.modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)):
                if layer not in drawn:
                    layer.weight.fill_(1.0 if isinstance(layer, nn.BatchNorm2d) else 0.0)
                layer.weight.add_(0.02 * torch.randn_like(layer.weight))
                if layer.bias is not None:
                    layer.bias.zero_()
                drawn.add(layer)
