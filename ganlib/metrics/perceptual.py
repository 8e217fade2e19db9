r"""How alike two images look to a network: perceptual distance, and the path length made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganlib.metrics.classifier import ClassifierFeatures

# The four convolutional levels of the digit classifier, after their ReLU.
DIGIT_LAYERS = ("network.2", "network.5", "network.8", "network.11")


def activations(network: nn.Module, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
    """Outputs of the named submodules during one pass of ``network(images)``, in the order of ``layers``.

    Names are those of ``network.named_modules()``. The outputs are copies: an activation in place, which may
    come next, does not change them. They carry gradients.

    Raises:
        ValueError: for a name that the network does not have, or a submodule that the pass did not run.
    """
    modules = dict(network.named_modules())
    unknown = [name for name in layers if name not in modules]
    if unknown or not layers:
        raise ValueError(
            f"layers must be names of submodules, got {list(layers)}; there are {list(modules)[1:]}"
        )
    found: dict[str, Tensor] = {}
    hooks = [
        modules[name].register_forward_hook(lambda *call, name=name: found.update({name: call[2].clone()}))
        for name in layers
    ]
    try:
        network(images)
    finally:
        for hook in hooks:
            hook.remove()
    silent = [name for name in layers if name not in found]
    if silent:
        raise ValueError(f"layers must take part in the pass, {silent} did not")
    return [found[name] for name in layers]


def perceptual_distance(
    first: Sequence[Tensor], second: Sequence[Tensor], weights: Sequence[Tensor] | None = None
) -> Tensor:
    r"""Squared distance between two stacks of feature maps whose channel vectors have length one:

    .. math:: d = \sum_l \frac{1}{H_l W_l} \sum_{h, w} \sum_c w_{lc} (\hat y_{lchw} - \hat y'_{lchw})^2,
        \qquad \hat y = y \Big/ \sqrt{10^{-8} + \textstyle\sum_c y_c^2}

    Without weights each place of each layer contributes :math:`2 - 2 \cos` of the angle between its two
    vectors: 0 where they point alike, whatever their lengths, at most 2 after a ReLU. The small number keeps
    value and gradient finite at places where no channel fires; there the vector counts as 0.

    Args:
        first: one map ``(N, C_l, H_l, W_l)`` per layer.
        second: likewise, of the same shapes.
        weights: ``(C_l,)`` per layer, not negative; they multiply squares. None for ones.

    Returns:
        ``(N,)``, float32 (float64 for float64 maps), under autocast too.

    Raises:
        ValueError: if the two, or the weights, do not fit.

    Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018,
    section 3 (LPIPS; its learnt weights enter squared in the paper, and as they are in the authors' code).
    """
    shapes = [[tuple(maps.shape) for maps in side] for side in (first, second)]
    if not first or shapes[0] != shapes[1] or any(len(shape) != 4 for shape in shapes[0]):
        raise ValueError(f"first and second must be maps (N, C, H, W) of the same shapes, got {shapes}")
    channels = [shape[1] for shape in shapes[0]]
    if weights is not None and [tuple(w.shape) for w in weights] != [(c,) for c in channels]:
        raise ValueError(f"weights must be one vector for each of {channels} channels")
    total = 0.0
    for layer, maps in enumerate(zip(first, second, strict=True)):
        x, y = (_unit(side) for side in maps)
        squares = (x - y).square()
        if weights is not None:
            squares = squares * weights[layer].to(squares).view(1, -1, 1, 1)
        total = total + squares.sum(1).mean((1, 2))
    return total


class PerceptualDistance(nn.Module):
    """:func:`perceptual_distance` of a fixed network's activations: two ``(N, C, H, W)`` to ``(N,)``.

    The network is frozen in place and stays in evaluation mode; gradients reach the images, so that the mean
    is a loss. Everything is computed by the network as it is: hand it images in the range and of the size
    that it was trained for. Under autocast a network of your own runs in half precision, and the distance
    then has a floor of about 1e-5 between images that differ in nothing but rounding.

    Args:
        network: any module; ``ClassifierFeatures()``, for digits in [-1, 1], if None. For photographs one of
            torchvision's with its weights, such as ``vgg16(weights="DEFAULT").features`` and the names
            ``["3", "8", "15", "22", "29"]``, on images normalised as those weights want it.
        layers: names of submodules, as in ``network.named_modules()``.
        weights: as in :func:`perceptual_distance`.

    Raises:
        ValueError: at the first call, for names that the network does not have.
    """

    def __init__(
        self,
        network: nn.Module | None = None,
        layers: Sequence[str] = DIGIT_LAYERS,
        weights: Sequence[Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.network = ClassifierFeatures() if network is None else network
        self.layers, self.weights = tuple(layers), weights
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor, reference: Tensor) -> Tensor:
        if images.shape != reference.shape:
            raise ValueError(
                "images and reference must have one shape, "
                f"got {tuple(images.shape)} and {tuple(reference.shape)}"
            )
        # Two passes, for a reference without gradient costs none.
        maps = (activations(self.network, side, self.layers) for side in (images, reference))
        return perceptual_distance(*maps, self.weights)

    def train(self, mode: bool = True) -> PerceptualDistance:
        """Does nothing: the measure must not depend on the mode of what is measured."""
        return super().train(False)


def slerp(start: Tensor, end: Tensor, t: Tensor | float) -> Tensor:
    r"""Along the great circle from ``start`` to ``end``, row by row.

    .. math:: \frac{\sin((1 - t) \omega)}{\sin \omega} a + \frac{\sin(t \omega)}{\sin \omega} b,
        \qquad \cos \omega = \frac{\langle a, b \rangle}{|a| |b|}

    Gaussian latents lie near a sphere, and so does this path between them; the straight one passes closer to
    the origin than any latent. Rows that are parallel, opposite or zero have no one great circle and are
    joined straight.

    Args:
        start: ``(N, d)``.
        end: ``(N, d)``.
        t: in [0, 1]; a number, or one per row as ``(N, 1)``.

    Source: White, "Sampling Generative Networks", 2016, section 2.1.
    """
    cosine = F.cosine_similarity(start, end, dim=1).unsqueeze(1)
    # Nearer than 1e-4 the cosine's rounding outweighs the difference between arc and chord. Such rows are
    # taken out before the arccosine, whose slope there is infinite.
    straight = cosine.square() >= 1 - 1e-8
    omega = torch.where(straight, 0.0, cosine).acos()
    arc = (((1 - t) * omega).sin() * start + (t * omega).sin() * end) / omega.sin()
    return torch.where(straight, start + t * (end - start), arc)


@torch.no_grad()
def perceptual_path_length(
    generator: Callable[[Tensor], Tensor],
    distance: Callable[[Tensor, Tensor], Tensor],
    start: Tensor,
    end: Tensor,
    *,
    rng: torch.Generator,
    path: Callable[[Tensor, Tensor, Tensor], Tensor] = slerp,
    epsilon: float = 1e-4,
    batch_size: int = 100,
) -> Tensor:
    r"""How fast the image changes at a random point of each path; the mean is the perceptual path length.

    .. math:: \frac{1}{\epsilon^2} \, d\big(G(p_{ab}(t)), G(p_{ab}(t + \epsilon))\big), \qquad t \sim U[0, 1)

    Small for a smooth generator; large where a little of the way from a to b changes much of the image.

    The step is a difference of nearly equal numbers. So the path is computed in float64 and rounded to the
    dtype of ``start`` at its end: in float32 t alone would be off by 6e-8, a thousandth of a step of 1e-4.
    Generator and distance run without autocast and without TF32, which round by more than such a step. What
    float32 rounds remains: for the DCGAN of notebook 06 the mean then agrees with float64 to 2e-4 at a step
    of 1e-4 and to 1 % at 1e-6.

    Args:
        generator: latents ``(N, d)`` to images, in evaluation mode: batch norm must not see the batch.
        distance: images, twice, to squared distances ``(N,)``, such as :class:`PerceptualDistance`.
        start: latents ``(N, d)``, one end of each path. For lengths in an intermediate latent space, such as
            StyleGAN's W, hand over latents mapped there.
        end: likewise, the other end.
        rng: source of t.
        path: :func:`slerp`, as for Gaussian latents, or ``torch.lerp``, as for W.
        epsilon: the step, in (0, 1).
        batch_size: paths per pass.

    Returns:
        ``(N,)``, float64, one per path. The authors' code leaves out those below the first and above the 99th
        percentile.

    Raises:
        ValueError: for latents of other shapes, a step out of range, a batch size below 1, or a distance that
            is not one number per image.

    Source: Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks", 2019,
    section 4.1 (slerp in Z, lerp in W). Lecture: Aalto "StyleGAN improves the quality of generated images".
    """
    if start.ndim != 2 or start.shape != end.shape or len(start) == 0:
        raise ValueError(f"start and end must be (N, d), got {tuple(start.shape)} and {tuple(end.shape)}")
    if not 0 < epsilon < 1:
        raise ValueError(f"epsilon must be in (0, 1), got {epsilon}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be positive, got {batch_size}")
    t = torch.rand(len(start), 1, generator=rng, dtype=torch.float64, device=rng.device).cpu()
    lengths = []
    with _full_precision(start.device.type):
        for a, b, s in zip(start.split(batch_size), end.split(batch_size), t.split(batch_size), strict=True):
            a, b = a.double().cpu(), b.double().cpu()  # on the CPU, for not every device has float64
            here, there = (generator(path(a, b, at).to(start)) for at in (s, s + epsilon))
            values = distance(here, there)
            if values.shape != (len(a),):
                raise ValueError(
                    f"distance must return {(len(a),)} for that many images, got {tuple(values.shape)}"
                )
            lengths.append(values.double().cpu() / epsilon**2)
    return torch.cat(lengths)


@contextmanager
def _full_precision(device_type: str) -> Iterator[None]:
    """Neither autocast nor, on a GPU, TF32: convolutions take it unless told not to."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = False
    try:
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before


def _unit(maps: Tensor) -> Tensor:
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
    return maps * (maps.square().sum(1, keepdim=True) + 1e-8).rsqrt()
