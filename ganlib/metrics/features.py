"""What the metrics on features share: features of images, checked matrices, distances block by block."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

BLOCK = 2**22  # numbers in a block of distances or kernel values: 32 MB in float64


@dataclass(frozen=True)
class Estimate:
    """Mean and (population) standard deviation of a metric over subsets of the samples."""

    mean: float
    std: float

    @classmethod
    def over(cls, values: Tensor) -> "Estimate":
        """The estimate of one value per subset, ``(S,)``."""
        return cls(values.mean().item(), values.std(correction=0).item())


def feature_batches(
    images: Tensor | Iterable[Tensor], features: nn.Module, batch_size: int = 500
) -> Iterator[Tensor]:
    """``features(images)`` batch by batch, for one tensor ``(N, C, H, W)`` or for batches as they come.

    Each batch goes to the device of the features' parameters; only one batch of images is held.

    Raises:
        ValueError: if the features are in training mode or ``batch_size`` is not positive.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be positive, got {batch_size}")
    if features.training:
        raise ValueError(
            "features must be in evaluation mode, where no image changes another's: call features.eval()"
        )
    parameter = next(features.parameters(), None)
    for batch in images.split(batch_size) if isinstance(images, Tensor) else images:
        with torch.no_grad():
            output = features(batch if parameter is None else batch.to(parameter.device))
        yield output


def extract_features(images: Tensor | Iterable[Tensor], features: nn.Module, batch_size: int = 500) -> Tensor:
    """The features ``(N, d)`` of all images, held at once: what metrics that compare points take.

    Args and errors as of :func:`feature_batches`; no images are an error, too.
    """
    batches = [batch for batch in feature_batches(images, features, batch_size) if len(batch)]
    if not batches:
        raise ValueError("images must not be empty")
    return torch.cat(batches)


def matrices(**named: Tensor) -> list[Tensor]:
    """Each argument as a float64 matrix ``(N, d)`` on one device, images flattened.

    Raises:
        ValueError: naming the argument that is not real, finite and of at least one row, or not as wide as
            the first.
    """
    result = []
    for name, value in named.items():
        if value.ndim < 2 or not value.numel() or not value.is_floating_point():
            raise ValueError(f"{name} must be real and (N, d), got {value.dtype} {tuple(value.shape)}")
        if value.device.type == "mps":  # which has no float64
            value = value.cpu()
        matrix = value.detach().flatten(1).double()
        if not matrix.isfinite().all():
            raise ValueError(f"{name} must be finite, got NaN or infinity")
        if result and matrix.shape[1] != result[0].shape[1]:
            raise ValueError(
                f"{name} must be as wide as {next(iter(named))}, {result[0].shape[1]}, got {matrix.shape[1]}"
            )
        result.append(matrix.to(result[0].device) if result else matrix)
    return result


def squared_distances(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """Squared distances ``|x_i - y_j|^2`` in float64, a block of rows ``(n, M)`` at a time.

    They come from ``|x|^2 - 2 x.y + |y|^2``, one matrix product, around the mean of y: what cancels then is
    small. Two equal rows end up about 1e-7 apart on the scale of the data, not at 0.
    """
    centre = y.mean(0)
    x, y = x - centre, y - centre
    norms = y.square().sum(1)
    for rows in x.split(max(1, BLOCK // len(y))):
        block = torch.addmm(norms, rows, y.T, alpha=-2)
        yield block.add_(rows.square().sum(1, keepdim=True)).clamp_(min=0)
