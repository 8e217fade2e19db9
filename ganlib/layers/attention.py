r"""Self-attention on feature maps: every place of a map may look at every other."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganlib.layers.precision import without_autocast


class SelfAttention(nn.Module):
    r"""A residual block in which each place mixes in what it finds at the places that it attends to.

    With x as a matrix of C channels by :math:`P = H W` places, and :math:`\downarrow` the largest of each
    2 x 2 places,

    .. math::
        q = W_q x, \quad k = \downarrow W_k x, \quad v = \downarrow W_v x, \qquad
        A_{ij} = \operatorname{softmax}_j \big( q_i^\top k_j \big), \qquad
        y_i = x_i + \gamma \, W_o \sum_j A_{ij} v_j

    A convolution sees a few pixels; here the two ends of a long stroke are one step apart. The scores are not
    divided by :math:`\sqrt{d}`, as transformers do. :math:`\gamma` starts at 0, so that the block starts as
    the identity, and learns first from what is near and then from far.

    Queries and keys have C / 8 channels, values C / 2. The pooling leaves a quarter of the places to attend
    to; it and the width of the values are those of the authors' code (the paper has no pooling and values of
    C / 8 channels). None of the four 1 x 1 convolutions has a bias. They are plain ones:
    :func:`ganlib.models.sngan.normalize_spectrally_` normalises them with the rest of a network.

    On GPUs the map is never stored, in training neither: fused attention computes it tile by tile. Those
    kernels have no second derivative; for a gradient penalty through this block choose
    ``torch.nn.attention.sdpa_kernel(SDPBackend.MATH)``.

    Args:
        channels: C, a multiple of 8.

    Shapes: ``(N, C, H, W)`` with even H and W -> the same.

    Raises:
        ValueError: if C is no multiple of 8, or on a call for another shape.

    Source: Zhang et al. 2019, "Self-Attention Generative Adversarial Networks", section 3, and the authors'
    published code. Lecture: Aalto "Self-Attention GAN (SAGAN) (Zhang et al., 2018)".
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < 8 or channels % 8:
            raise ValueError(f"channels must be a multiple of 8, got {channels}")
        self.channels = channels
        self.query = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.key = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.value = nn.Conv2d(channels, channels // 2, 1, bias=False)
        self.out = nn.Conv2d(channels // 2, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        query, key = self._scored(x)
        value = _places(F.max_pool2d(self.value(x), 2))
        # One head; the axis for heads is what the fused kernels are looked up by.
        mixed = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None], scale=1.0)
        mixed = mixed[:, 0].transpose(1, 2).unflatten(2, x.shape[2:])
        return x + self.gamma.to(x.dtype) * self.out(mixed)

    def attention(self, x: Tensor) -> Tensor:
        """The map A itself, for looking at: ``(N, C, H, W)`` -> ``(N, H W, H W / 4)``, rows that sum to 1.

        Row ``i = r W + c`` belongs to the place in row r and column c, and
        ``map[:, i].unflatten(1, (H // 2, W // 2))`` is where it looks.
        """
        query, key = self._scored(x)
        with without_autocast(x):
            return (query.float() @ key.float().transpose(1, 2)).softmax(2)

    def _scored(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Queries ``(N, H W, C / 8)`` and keys ``(N, H W / 4, C / 8)``."""
        if x.ndim != 4 or x.shape[1] != self.channels or x.shape[2] % 2 or x.shape[3] % 2:
            raise ValueError(f"x must be (N, {self.channels}, H, W) with even H and W, got {tuple(x.shape)}")
        return _places(self.query(x)), _places(F.max_pool2d(self.key(x), 2))


def _places(x: Tensor) -> Tensor:
    """``(N, C, H, W)`` as ``(N, H W, C)``; no copy where memory is channels-last."""
    return x.flatten(2).transpose(1, 2)


def attention_maps(network: nn.Module, *inputs: Tensor) -> list[Tensor]:
    """The maps of every :class:`SelfAttention` in ``network`` while it runs on ``inputs``, in running order.

    Args:
        network: called as ``network(*inputs)``, in evaluation mode and without gradients; its modes are put
            back.
        inputs: such as latents and labels for a generator, images and labels for a discriminator.

    Returns:
        One tensor ``(N, H W, H W / 4)`` for each time such a block ran; see :meth:`SelfAttention.attention`.

    Raises:
        ValueError: if none ran.
    """
    maps: list[Tensor] = []

    def keep(block: SelfAttention, arguments: tuple[Tensor, ...]) -> None:
        maps.append(block.attention(arguments[0]))

    training = [module for module in network.modules() if module.training]
    blocks = [module for module in network.modules() if isinstance(module, SelfAttention)]
    handles = [block.register_forward_pre_hook(keep) for block in blocks]
    network.eval()
    try:
        with torch.no_grad():
            network(*inputs)
    finally:
        for handle in handles:
            handle.remove()
        for module in training:
            module.training = True
    if not maps:
        raise ValueError("network must have a SelfAttention block that runs in its forward pass")
    return maps
