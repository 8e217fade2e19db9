r"""Targets in the plane, on which a GAN can be watched: all of it in one picture, and the truth is known.

Each is a skeleton - points, line segments or a curve - blurred by Gaussian noise of one ``std`` in both
directions. So each can be sampled, its density is known exactly, and a sample is told from a stray by its
distance to the skeleton. With ``std=0`` the mass lies on the skeleton itself and there is no density: the
case that the divergences of Kullback-Leibler and Jensen-Shannon have no useful answer to (Arjovsky et al.
2017, Example 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class Target(Protocol):
    """A distribution in the plane, as the GAN lab wants it.

    Attributes:
        std: standard deviation of the blur in each direction.
        modes: centres ``(k, 2)`` of separate bumps; ``(0, 2)`` where the mass is spread along a curve.
    """

    std: float

    @property
    def modes(self) -> Tensor: ...

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw ``n`` points, float32 ``(n, 2)``."""
        ...

    def distance(self, points: Tensor) -> Tensor:
        """Distance ``(N,)`` of points ``(N, 2)`` to the skeleton."""
        ...


@dataclass(frozen=True, eq=False)
class Mixture:
    r"""Equally likely Gaussians around ``centres`` :math:`c_1, \dots, c_k`.

    .. math:: p(x) = \frac{1}{k} \sum_i \frac{1}{2 \pi s^2} \exp\Big(-\frac{\|x - c_i\|^2}{2 s^2}\Big)

    Args:
        centres: ``(k, 2)``, k at least 1.
        std: s, at least 0.

    Raises:
        ValueError: for another shape, numbers that are not finite, or a negative ``std``.
    """

    centres: Tensor
    std: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "centres", _points("centres", self.centres))
        _check_std(self.std)

    @property
    def modes(self) -> Tensor:
        """The centres if no point can lie within three standard deviations of two of them, else none."""
        apart = torch.pdist(self.centres).min() if len(self.centres) > 1 else torch.tensor(math.inf)
        return self.centres if apart > 6 * self.std else self.centres[:0]

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw ``n`` points, float32 ``(n, 2)``, with random numbers from ``generator``."""
        chosen = torch.randint(len(self.centres), (_count(n),), generator=generator)
        return _blurred(self.centres[chosen], self.std, generator)

    def density(self, points: Tensor) -> Tensor:
        """The density at points ``(N, 2)``, float64 ``(N,)``.

        Raises:
            ValueError: for another shape, or if ``std`` is 0.
        """
        return _mean_gaussian(_points("points", points), self.centres, self.std)

    def distance(self, points: Tensor) -> Tensor:
        """Distance ``(N,)`` of points ``(N, 2)`` to the nearest centre."""
        return torch.cdist(_points("points", points), self.centres).amin(1)


@dataclass(frozen=True, eq=False)
class Segments:
    r"""Line segments, each point of them equally likely, blurred.

    For one segment of length L, t the coordinate along it and h the distance from its line:

    .. math::
        p(x) = \frac{1}{L} \Big(\Phi\big(\tfrac{L - t}{s}\big) - \Phi\big(\tfrac{-t}{s}\big)\Big) \,
        \frac{1}{s \sqrt{2 \pi}} e^{-h^2 / 2 s^2}

    Several are mixed in proportion to their lengths.

    Args:
        ends: ``(k, 2, 2)``: segment, its two ends, coordinates.
        std: s, at least 0.

    Raises:
        ValueError: for another shape, a segment of no length, or a negative ``std``.
    """

    ends: Tensor
    std: float

    def __post_init__(self) -> None:
        ends = torch.as_tensor(self.ends, dtype=torch.float64)
        if ends.ndim != 3 or ends.shape[1:] != (2, 2) or not len(ends) or not ends.isfinite().all():
            raise ValueError(f"ends must be finite numbers (k, 2, 2) with k >= 1, got {tuple(ends.shape)}")
        if not (ends[:, 1] - ends[:, 0]).norm(dim=1).gt(0).all():
            raise ValueError("ends must be two different points for every segment")
        object.__setattr__(self, "ends", ends)
        _check_std(self.std)

    @property
    def modes(self) -> Tensor:
        """None: ``(0, 2)``."""
        return torch.empty(0, 2, dtype=torch.float64)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw ``n`` points, float32 ``(n, 2)``, with random numbers from ``generator``."""
        along = self.ends[:, 1] - self.ends[:, 0]
        chosen = torch.multinomial(along.norm(dim=1), _count(n), replacement=True, generator=generator)
        u = torch.rand(n, 1, generator=generator, dtype=torch.float64)
        return _blurred(self.ends[chosen, 0] + u * along[chosen], self.std, generator)

    def density(self, points: Tensor) -> Tensor:
        """The density at points ``(N, 2)``, float64 ``(N,)``.

        Raises:
            ValueError: for another shape, or if ``std`` is 0.
        """
        _check_density(self.std)
        t, h, length = self._coordinates(points)
        s = self.std
        share = torch.special.ndtr((length - t) / s) - torch.special.ndtr(-t / s)
        across = torch.exp(-0.5 * (h / s) ** 2) / (s * math.sqrt(2 * math.pi))
        return (share * across).sum(1) / length.sum()

    def distance(self, points: Tensor) -> Tensor:
        """Distance ``(N,)`` of points ``(N, 2)`` to the nearest segment."""
        t, h, length = self._coordinates(points)
        beyond = t - torch.minimum(t.clamp(min=0), length)
        return torch.hypot(beyond, h).amin(1)

    def _coordinates(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Coordinates ``(N, k)`` along and across every segment, and the lengths ``(k,)``."""
        along = self.ends[:, 1] - self.ends[:, 0]
        length = along.norm(dim=1)
        direction = along / length[:, None]
        offset = _points("points", points)[:, None] - self.ends[:, 0]
        t = (offset * direction).sum(2)
        h = offset[..., 0] * direction[:, 1] - offset[..., 1] * direction[:, 0]
        return t, h, length


@dataclass(frozen=True)
class SwissRoll:
    r"""A spiral, blurred; the mass thins out towards its outer end.

    .. math::
        c(u) = \frac{r}{4.5 \pi} \, t \, (\cos t, \sin t), \qquad t = 1.5 \pi (1 + 2u), \quad u \sim U[0, 1]

    The density, the integral over u of a Gaussian around c(u), has no closed form; it is taken by Gauss and
    Legendre's rule with 16 nodes per piece of at most 2 s in length, which is exact to float64 rounding.

    Args:
        radius: r, of the outer end; positive.
        std: s, at least 0.

    Source: the shape of scikit-learn's ``make_swiss_roll`` seen from the front, which Gulrajani et al. 2017
    (Figure 1a) train on with noise 0.25 at radius 4.5 pi; the same proportions are the defaults here.
    """

    radius: float = 2.0
    std: float = 0.035

    def __post_init__(self) -> None:
        if not 0 < self.radius < math.inf:
            raise ValueError(f"radius must be positive, got {self.radius}")
        _check_std(self.std)

    @property
    def modes(self) -> Tensor:
        """None: ``(0, 2)``."""
        return torch.empty(0, 2, dtype=torch.float64)

    def curve(self, u: Tensor) -> Tensor:
        """The points ``(N, 2)`` of the spiral at ``u`` ``(N,)`` in [0, 1]."""
        t = 1.5 * math.pi * (1 + 2 * u)
        return (t * self.radius / (4.5 * math.pi))[:, None] * torch.stack([t.cos(), t.sin()], 1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw ``n`` points, float32 ``(n, 2)``, with random numbers from ``generator``."""
        u = torch.rand(_count(n), generator=generator, dtype=torch.float64)
        return _blurred(self.curve(u), self.std, generator)

    def density(self, points: Tensor) -> Tensor:
        """The density at points ``(N, 2)``, float64 ``(N,)``.

        Raises:
            ValueError: for another shape, or if ``std`` is 0.
        """
        _check_density(self.std)
        steepest = 4.5 * math.pi * self.radius / 1.5  # bounds |c'(u)| = 3 pi (r / 4.5 pi) sqrt(1 + t^2)
        pieces = math.ceil(steepest / (2 * self.std)) + 1
        nodes, weights = (torch.from_numpy(a) / 2 for a in np.polynomial.legendre.leggauss(16))
        u = ((torch.arange(pieces)[:, None] + 0.5 + nodes) / pieces).flatten()
        return _mean_gaussian(
            _points("points", points), self.curve(u), self.std, (weights / pieces).repeat(pieces)
        )

    def distance(self, points: Tensor) -> Tensor:
        """Distance ``(N,)`` of points ``(N, 2)`` to the spiral, to within ``radius / 2000``."""
        u = torch.linspace(0, 1, 10_000, dtype=torch.float64)
        curve = self.curve(u)
        return torch.cat([torch.cdist(part, curve).amin(1) for part in _points("points", points).split(1000)])


def ring(modes: int = 8, radius: float = 2.0, std: float = 0.02) -> Mixture:
    """Gaussians evenly spaced on a circle: the mode collapse test of Metz et al. 2017 (Appendix A).

    The lectures: OUC "8 Gaussians" under "Drawback of weight clipping".

    Raises:
        ValueError: if ``modes`` is less than 1 or ``radius`` is not positive.
    """
    if modes < 1 or not 0 < radius < math.inf:
        raise ValueError(f"modes must be at least 1 and radius positive, got {modes} and {radius}")
    angles = torch.arange(modes, dtype=torch.float64) * (2 * math.pi / modes)
    return Mixture(radius * torch.stack([angles.cos(), angles.sin()], 1), std)


def grid(side: int = 5, spacing: float = 2.0, std: float = 0.05) -> Mixture:
    """``side`` x ``side`` Gaussians on a grid around the origin, 25 in Srivastava et al. 2017 (VEEGAN).

    The lectures: OUC "25 Gaussians" under "Drawback of weight clipping".

    Raises:
        ValueError: if ``side`` is less than 1 or ``spacing`` is not positive.
    """
    if side < 1 or not 0 < spacing < math.inf:
        raise ValueError(f"side must be at least 1 and spacing positive, got {side} and {spacing}")
    ticks = (torch.arange(side, dtype=torch.float64) - (side - 1) / 2) * spacing
    return Mixture(torch.cartesian_prod(ticks, ticks).view(-1, 2), std)


def swiss_roll(radius: float = 2.0, std: float = 0.035) -> SwissRoll:
    """The spiral of :class:`SwissRoll`."""
    return SwissRoll(radius, std)


def two_lines(distance: float = 2.0, length: float = 3.0, std: float = 0.05) -> Segments:
    """Two parallel vertical lines ``distance`` apart, blurred: one target that has two pieces.

    Raises:
        ValueError: if ``distance`` or ``length`` is not positive.
    """
    if not (0 < distance < math.inf and 0 < length < math.inf):
        raise ValueError(f"distance and length must be positive, got {distance} and {length}")
    x, y = distance / 2, length / 2
    return Segments(torch.tensor([[[-x, -y], [-x, y]], [[x, -y], [x, y]]], dtype=torch.float64), std)


def two_deltas(distance: float = 2.0) -> Mixture:
    """Half the mass on each of two points ``distance`` apart on the horizontal axis; no density.

    Raises:
        ValueError: if ``distance`` is not positive.
    """
    if not 0 < distance < math.inf:
        raise ValueError(f"distance must be positive, got {distance}")
    return Mixture(torch.tensor([[-distance / 2, 0.0], [distance / 2, 0.0]], dtype=torch.float64), 0.0)


def drawn(strokes: Sequence[Sequence[Sequence[float]] | Tensor], std: float = 0.1) -> Mixture:
    """A target drawn by hand: the kernel density estimate around points that are spaced evenly along strokes.

    Args:
        strokes: lines of points ``(k_i, 2)``; a stroke of one point is a dot.
        std: the kernel's, positive. Points are at most so far apart, and a stroke is even along its length.

    Raises:
        ValueError: if there is no stroke, a stroke is not ``(k, 2)``, or ``std`` is not positive.
    """
    if not 0 < std < math.inf:
        raise ValueError(f"std must be positive, got {std}")
    if not len(strokes):
        raise ValueError("strokes must hold at least one stroke, got none")
    parts = []
    for number, stroke in enumerate(strokes):
        line = _points(f"strokes[{number}]", stroke)
        walked = torch.cat([torch.zeros(1), (line[1:] - line[:-1]).norm(dim=1).cumsum(0)]).double()
        stops = np.linspace(0, float(walked[-1]), math.ceil(float(walked[-1]) / std) + 1)
        coordinates = [np.interp(stops, walked, line[:, axis]) for axis in (0, 1)]
        parts.append(torch.from_numpy(np.stack(coordinates, 1)))
    return Mixture(torch.cat(parts), std)


def _points(name: str, value: Tensor | Sequence[Sequence[float]]) -> Tensor:
    points = torch.as_tensor(value).detach().double()
    if points.ndim != 2 or points.shape[1] != 2 or not len(points) or not points.isfinite().all():
        raise ValueError(f"{name} must be finite numbers (N, 2) with N >= 1, got shape {tuple(points.shape)}")
    return points


def _count(n: int) -> int:
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    return n


def _check_std(std: float) -> None:
    if not 0 <= std < math.inf:
        raise ValueError(f"std must be at least 0 and finite, got {std}")


def _check_density(std: float) -> None:
    if std == 0:
        raise ValueError("std must be positive for a density to exist, got 0")


def _blurred(points: Tensor, std: float, generator: torch.Generator) -> Tensor:
    noise = torch.randn(points.shape, generator=generator, dtype=torch.float64)
    return (points + std * noise).float()


def _mean_gaussian(points: Tensor, centres: Tensor, std: float, weights: Tensor | None = None) -> Tensor:
    """The weighted mean over the centres of a Gaussian around each, at every point."""
    _check_density(std)
    if weights is None:
        weights = torch.full((len(centres),), 1 / len(centres), dtype=torch.float64)
    parts = [
        torch.exp((part[:, None] - centres).square().sum(2) / (-2 * std**2)) @ weights
        for part in points.split(1000)  # a megabyte or some at a time
    ]
    return torch.cat(parts) / (2 * math.pi * std**2)
