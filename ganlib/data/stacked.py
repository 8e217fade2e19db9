"""Stacked MNIST: a thousand modes to lose."""

import torch

from ganlib.data.embedded import Images, mnist


def stacked_mnist(n: int, seed: int = 0, split: str = "train", size: int = 32) -> Images:
    """Three random digits as the colour channels of one image: 1,000 nearly equally likely modes.

    Each channel is drawn from the split with replacement, independently of the others. A classifier of digits
    tells the mode, so that a generator's lost modes can be counted: :func:`ganlib.metrics.stacked_modes`.

    Args:
        n: how many; PacGAN trains on 128,000. One takes 12 kB at 32 pixels.
        seed: of the choice of digits.
        split: MNIST's ``"train"`` or ``"test"``.
        size: 32 (padded) or 28 (as published).

    Returns:
        Images float32 ``(n, 3, size, size)`` in [-1, 1] and labels int64 ``(n,)`` in 0..999: 100 a + 10 b + c
        for digits a, b, c in the first, second and third channel.

    Raises:
        ValueError: if n is less than 1, or for another split or size.

    Source: Metz et al., "Unrolled Generative Adversarial Networks", 2017, section 3.3.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    images, labels = mnist(split, size)
    chosen = torch.randint(len(labels), (n, 3), generator=torch.Generator().manual_seed(seed))
    return Images(images[:, 0][chosen], labels[chosen] @ torch.tensor([100, 10, 1]))
