r"""Edit transfer: what an edit does to samples, done to the photograph itself.

An edited sample G(z_1) shows the user's wish, but it is a sample: it lacks what the generator could not give
back of the photograph. So the edit is estimated as a motion and a change of colours along the way from
G(z_0) to G(z_1), and those two are applied to the photograph.

Source: Zhu, Krähenbühl, Shechtman and Efros, "Generative Visual Manipulation on the Natural Image Manifold",
2016, section on edit transfer. Lecture: OUC "iGAN", the slide with the double integral.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

COARSEST = 8  # pixels of the shorter side where the search begins
STEP_SIZES = (1.0, 0.5, 0.25, 0.0)


@dataclass(frozen=True)
class Flow:
    r"""Where each pixel of one image comes from in another, and how its colour changes on the way.

    Attributes:
        motion: (u, v) ``(N, 2, H, W)`` in pixels, to the right and downwards.
        colour: A ``(N, C, C + 1, H, W)``, at each pixel an affine map of the C colours.
    """

    motion: Tensor
    colour: Tensor

    def __call__(self, source: Tensor) -> Tensor:
        r""":math:`A(x, y) \cdot I(x + u, y + v)` of images ``(N, C, H, W)``."""
        return _recolour(self.colour, warp(source, self.motion))

    def after(self, earlier: Flow) -> Flow:
        r"""This flow of what ``earlier`` makes of an image, as one flow of that image.

        .. math:: u(p) = u_2(p) + u_1(p + u_2(p)), \qquad A(p) = A_2(p) A_1(p + u_2(p))

        It reads the image once, so that detail is blurred by one interpolation and not by two.
        """
        n, c, _, h, w = self.colour.shape
        moved = warp(earlier.colour.reshape(n, c * (c + 1), h, w), self.motion).view_as(self.colour)
        product = torch.einsum("nijhw,njkhw->nikhw", self.colour[:, :, :c], moved)
        offset = torch.cat([torch.zeros_like(product[:, :, :c]), self.colour[:, :, c:]], 2)
        return Flow(self.motion + warp(earlier.motion, self.motion), product + offset)


def warp(images: Tensor, motion: Tensor) -> Tensor:
    """Images ``(N, C, H, W)`` read at (x + u, y + v), bilinearly; outside lies what is on the border.

    Args:
        images: floating point.
        motion: ``(N, 2, H, W)`` in pixels.

    Raises:
        ValueError: if the shapes do not fit.
    """
    n, _, h, w = images.shape
    if motion.shape != (n, 2, h, w):
        raise ValueError(f"motion must be {(n, 2, h, w)} for these images, got {tuple(motion.shape)}")
    x = torch.arange(w, device=motion.device, dtype=motion.dtype) + motion[:, 0]
    y = torch.arange(h, device=motion.device, dtype=motion.dtype)[:, None] + motion[:, 1]
    places = torch.stack([2 * x / max(w - 1, 1) - 1, 2 * y / max(h - 1, 1) - 1], dim=-1)
    return F.grid_sample(images, places, padding_mode="border", align_corners=True)


def energy(target: Tensor, source: Tensor, flow: Flow, smoothness: float, colour_smoothness: float) -> Tensor:
    r"""The slide's energy of a flow, ``(N,)``: integrals are sums over pixels, gradients are differences.

    .. math:: \iint \|I(x, y, t) - A \cdot I(x + u, y + v, t + 1)\|^2
        + \sigma_s (\|\nabla u\|^2 + \|\nabla v\|^2) + \sigma_c \|\nabla A\|^2 \, dx \, dy

    Args:
        target: :math:`I(\cdot, t)`, ``(N, C, H, W)``.
        source: :math:`I(\cdot, t + 1)`, likewise.
        flow: u, v and A.
        smoothness: :math:`\sigma_s`.
        colour_smoothness: :math:`\sigma_c`.
    """
    data = (target - flow(source)).square().flatten(1).sum(1)
    rough = smoothness * _roughness(flow.motion) + colour_smoothness * _roughness(flow.colour.flatten(1, 2))
    return data + rough


@torch.no_grad()
def dense_flow(
    target: Tensor,
    source: Tensor,
    *,
    smoothness: float = 0.05,
    colour_smoothness: float = 0.5,
    rounds: int = 5,
    iterations: int = 30,
) -> Flow:
    r"""The flow from ``source`` to ``target`` that minimises :func:`energy`, for each pair of a batch.

    From coarse to fine, because the data term knows only what lies within a stroke's width: the flow of the
    image at half the size, doubled, is where the search begins. At each size Gauss and Newton's method: the
    warped image is taken as linear in the motion, what remains is a quadratic function of all unknowns, and
    conjugate gradients minimise it. A step that would raise the energy is shortened.

    Args:
        target: ``(N, C, H, W)``, floating point.
        source: of the same shape.
        smoothness: :math:`\sigma_s`, positive; the larger, the more alike the motions of neighbours.
        colour_smoothness: :math:`\sigma_c`, positive; the larger, the more is explained by motion.
        rounds: of linearising, at each size.
        iterations: of conjugate gradients in each.

    Raises:
        ValueError: if the shapes differ, or a smoothness is not positive.

    Source: Zhu et al. 2016, who alternate between optical flow and colour; both at once is no harder.
    """
    if target.shape != source.shape or target.ndim != 4 or not target.numel():
        raise ValueError(
            f"target and source must be images (N, C, H, W) of one shape, "
            f"got {tuple(target.shape)} and {tuple(source.shape)}"
        )
    for name, weight in (("smoothness", smoothness), ("colour_smoothness", colour_smoothness)):
        if not weight > 0:
            raise ValueError(f"{name} must be positive, got {weight}")
    target, source = target.float(), source.float()
    flow = _no_flow(target)
    for size in _sizes(target):
        flow = _resized(flow, size)
        pair = F.interpolate(target, size, mode="area"), F.interpolate(source, size, mode="area")
        for _ in range(rounds):
            flow = _improved(flow, *pair, smoothness, colour_smoothness, iterations)
    return flow


def transfer(frames: Tensor, original: Tensor, **options: float) -> Tensor:
    """What happens along ``frames``, done to ``original``.

    Each frame's flow is read from the one before it, as an image is computed by asking each of its pixels
    where it comes from. Where nothing happens along the frames the original comes out as it is.

    Args:
        frames: ``(T, N, C, H, W)``, at least two, such as G along a path from :math:`z_0` to :math:`z_1`; the
            paper's way to keep single motions small.
        original: ``(N, C, H, W)``: what the first frame is the projection of.
        options: of :func:`dense_flow`.

    Raises:
        ValueError: if the frames do not fit the original.
    """
    if frames.ndim != 5 or len(frames) < 2 or frames.shape[1:] != original.shape:
        raise ValueError(
            f"frames must be at least two of {tuple(original.shape)} each, got {tuple(frames.shape)}"
        )
    flows = dense_flow(frames[1:].flatten(0, 1), frames[:-1].flatten(0, 1), **options)
    motions = flows.motion.unflatten(0, (len(frames) - 1, -1))
    colours = flows.colour.unflatten(0, (len(frames) - 1, -1))
    whole = Flow(motions[0], colours[0])
    for motion, colour in zip(motions[1:], colours[1:], strict=True):
        whole = Flow(motion, colour).after(whole)
    return whole(original.float())


def _improved(
    flow: Flow, target: Tensor, source: Tensor, smoothness: float, colour_smoothness: float, iterations: int
) -> Flow:
    """One step of Gauss and Newton's method, for each pair the best of a few lengths of it."""
    warped = warp(source, flow.motion)
    jacobian = _jacobian(flow.colour, warped)
    weights = torch.full((1, jacobian.shape[2], 1, 1), colour_smoothness, device=target.device)
    weights[:, :2] = smoothness

    def product(x: Tensor) -> Tensor:
        seen = torch.einsum("nckhw,nkhw->nchw", jacobian, x)
        return torch.einsum("nckhw,nchw->nkhw", jacobian, seen) + weights * _laplacian(x)

    now = torch.cat([flow.motion, flow.colour.flatten(1, 2)], 1)
    missing = target - _recolour(flow.colour, warped)
    right = torch.einsum("nckhw,nchw->nkhw", jacobian, missing) - weights * _laplacian(now)
    step = _solve(product, right, jacobian.square().sum(1) + 4 * weights, iterations)
    candidates = [_split(now + length * step, flow) for length in STEP_SIZES]
    energies = [energy(target, source, flow, smoothness, colour_smoothness) for flow in candidates]
    best = torch.stack(energies).argmin(0)
    lengths = torch.tensor(STEP_SIZES, device=target.device)[best]
    return _split(now + lengths.view(-1, 1, 1, 1) * step, flow)


def _jacobian(colour: Tensor, warped: Tensor) -> Tensor:
    """Derivative of the C predicted colours in (u, v) and the rows of A, ``(N, C, 2 + C (C + 1), H, W)``."""
    n, c, h, w = warped.shape
    slope = torch.stack(torch.gradient(warped, dim=(3, 2)), 2)
    jacobian = warped.new_zeros(n, c, 2 + c * (c + 1), h, w)
    jacobian[:, :, :2] = torch.einsum("nijhw,njkhw->nikhw", colour[:, :, :c], slope)
    for row in range(c):
        first = 2 + row * (c + 1)
        jacobian[:, row, first : first + c] = warped
        jacobian[:, row, first + c] = 1
    return jacobian


def _solve(product: Callable[[Tensor], Tensor], right: Tensor, diagonal: Tensor, iterations: int) -> Tensor:
    """Conjugate gradients, divided by the diagonal beforehand, for each item of the batch by itself."""

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum((1, 2, 3), keepdim=True)

    x, residual = torch.zeros_like(right), right
    scaled = residual / diagonal
    direction, size = scaled, dot(residual, scaled)
    for _ in range(iterations):
        image = product(direction)
        # An item that is solved has nothing left to divide.
        length = size / dot(direction, image).clamp(min=1e-20)
        x, residual = x + length * direction, residual - length * image
        scaled = residual / diagonal
        before, size = size, dot(residual, scaled)
        direction = scaled + size / before.clamp(min=1e-20) * direction
    return x


def _laplacian(x: Tensor) -> Tensor:
    """Half the gradient of :func:`_roughness`: the sum of differences to the neighbours that there are."""
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    around = padded[..., 2:, 1:-1] + padded[..., :-2, 1:-1] + padded[..., 1:-1, 2:] + padded[..., 1:-1, :-2]
    return 4 * x - around


def _roughness(x: Tensor) -> Tensor:
    across, down = x.diff(dim=3), x.diff(dim=2)
    return across.square().flatten(1).sum(1) + down.square().flatten(1).sum(1)


def _recolour(colour: Tensor, images: Tensor) -> Tensor:
    c = images.shape[1]
    return torch.einsum("nijhw,njhw->nihw", colour[:, :, :c], images) + colour[:, :, c]


def _split(unknowns: Tensor, like: Flow) -> Flow:
    return Flow(unknowns[:, :2], unknowns[:, 2:].reshape_as(like.colour))


def _no_flow(images: Tensor) -> Flow:
    """Nothing moves, and colours stay."""
    n, c, h, w = images.shape
    colour = torch.eye(c, c + 1, device=images.device).view(1, c, c + 1, 1, 1).repeat(n, 1, 1, h, w)
    return Flow(images.new_zeros(n, 2, h, w), colour)


def _sizes(images: Tensor) -> list[tuple[int, int]]:
    """From the coarsest size to the images' own, each half of the next."""
    sizes = [tuple(images.shape[2:])]
    while min(sizes[0]) >= 2 * COARSEST:
        sizes.insert(0, tuple(side // 2 for side in sizes[0]))
    return sizes


def _resized(flow: Flow, size: tuple[int, int]) -> Flow:
    """The flow at another size, its motions in that size's pixels."""
    n, c, _, h, w = flow.colour.shape
    scale = torch.tensor([size[1] / w, size[0] / h], device=flow.motion.device).view(1, 2, 1, 1)
    motion = F.interpolate(flow.motion, size, mode="bilinear") * scale
    colour = F.interpolate(flow.colour.flatten(1, 2), size, mode="bilinear")
    return Flow(motion, colour.view(n, c, c + 1, *size))
