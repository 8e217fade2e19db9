"""Fréchet distance of Gaussians fitted to features: FID."""

from collections.abc import Iterable
from functools import lru_cache

import torch
from torch import Tensor, nn

from ganlib.metrics.classifier import ASSETS, ClassifierFeatures
from ganlib.metrics.features import feature_batches

MOMENTS = ASSETS / "mnist_moments.safetensors"
BLOCK = 256  # columns per product: small enough to skip most of what symmetry gives, large enough to be fast


class Moments:
    """Mean and covariance of feature vectors that come in batches, in float64.

    Batches join by the rule of Chan, Golub and LeVeque: with ``delta = mean_b - mean_a``,

        mean = mean_a + delta n_b / n,     scatter = scatter_a + scatter_b + delta delta^T n_a n_b / n

    where the scatter is the sum of outer products of deviations from the mean. Sums of raw squares would lose
    the digits that matter when the mean is large against the spread.

    Attributes:
        n: how many vectors were seen.
        mean: float64 ``(d,)``.

    Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances", 1979, equations 2.1, in their form for several variables.
    """

    def __init__(self) -> None:
        self.n = 0
        self._mean = self._scatter = None

    @classmethod
    def of(cls, n: int, mean: Tensor, covariance: Tensor) -> "Moments":
        """Known moments of n vectors: ``mean`` ``(d,)`` and unbiased ``covariance`` ``(d, d)``."""
        if n < 2 or mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
            raise ValueError(
                "n, mean and covariance must be n >= 2, (d,) and (d, d), "
                f"got {n}, {tuple(mean.shape)} and {tuple(covariance.shape)}"
            )
        result = cls()
        result._add(n, mean.double(), covariance.double() * (n - 1))
        return result

    def update(self, features: Tensor) -> "Moments":
        """Take in vectors ``(N, d)``; returns itself.

        Raises:
            ValueError: if the features are not a matrix, not as wide as those before, or not finite.
        """
        if features.ndim != 2 or features.shape[1] == 0 or not features.is_floating_point():
            raise ValueError(
                f"features must be a real matrix (N, d), got {features.dtype} {tuple(features.shape)}"
            )
        if self.n and features.shape[1] != len(self._mean):
            raise ValueError(f"features must be {len(self._mean)} wide as before, got {features.shape[1]}")
        if not features.isfinite().all():
            raise ValueError("features must be finite, got NaN or infinity")
        if len(features) == 0:
            return self
        if features.device.type == "mps":  # which has no float64
            features = features.cpu()
        features = features.detach().double()
        n, mean = len(features), features.mean(0)
        if self.n == 0:
            self._mean, self._scatter = mean.clone(), mean.new_zeros(len(mean), len(mean))
        mean = mean.to(self._mean.device)
        delta, total = mean - self._mean, self.n + n
        # With the rule's last term as one more row, one product in place does it all; below the diagonal it
        # would only repeat itself.
        rows = torch.cat([features.to(mean.device) - mean, delta[None] * (self.n * n / total) ** 0.5])
        for i in range(0, len(mean), BLOCK):
            self._scatter[i : i + BLOCK, i:].addmm_(rows[:, i : i + BLOCK].T, rows[:, i:])
        self._mean += delta * (n / total)
        self.n = total
        return self

    def merge(self, other: "Moments") -> "Moments":
        """Take in what another has seen, such as another process; returns itself."""
        if other.n == 0:
            return self
        if self.n and len(self._mean) != len(other._mean):
            raise ValueError(f"other must be {len(self._mean)} wide, got {len(other._mean)}")
        self._add(other.n, other._mean, other._scatter)
        return self

    def _add(self, n: int, mean: Tensor, scatter: Tensor) -> None:
        if self.n == 0:
            self.n, self._mean, self._scatter = n, mean.clone(), scatter.clone()
            return
        mean, scatter = mean.to(self._mean.device), scatter.to(self._mean.device)
        delta = mean - self._mean
        total = self.n + n
        self._mean += delta * (n / total)
        self._scatter += scatter + torch.outer(delta, delta) * (self.n * n / total)
        self.n = total

    @property
    def mean(self) -> Tensor:
        if self.n == 0:
            raise ValueError("there is no mean before the first update")
        return self._mean

    @property
    def covariance(self) -> Tensor:
        """Unbiased covariance, float64 ``(d, d)``: the scatter over n - 1."""
        if self.n < 2:
            raise ValueError(f"a covariance needs at least 2 vectors, got {self.n}")
        upper = self._scatter.triu()  # what lies below is not kept up
        return (upper + upper.triu(1).T) / (self.n - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """Squared Fréchet (2-Wasserstein) distance between the Gaussians with these moments.

        d^2 = |mu_a - mu_b|^2 + tr(S_a) + tr(S_b) - 2 tr (S_a^{1/2} S_b S_a^{1/2})^{1/2}

    The usual ``sqrtm(S_a @ S_b)`` takes the root of a matrix that is not symmetric, with a Schur form, and
    may come out complex. With any R that has ``R R^T = S_a``, such as Cholesky's, ``R^T S_b R`` has the same
    eigenvalues and is symmetric, and the trace of the root is the sum of their square roots. Covariances may
    be singular, as those of fewer vectors than dimensions are; R then comes from the eigenvectors.

    Returns:
        A float, at least 0.

    Raises:
        ValueError: if the two differ in dimension, or one has seen fewer than 2 vectors.

    Source: Dowson and Landau, "The Fréchet distance between multivariate normal distributions", 1982; Heusel
    et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", 2017,
    equation 6; Aalto CS-E4890, lecture on GANs.
    """
    mean_a, mean_b, cov_a, cov_b = (x.cpu() for x in (a.mean, b.mean, a.covariance, b.covariance))
    if len(mean_a) != len(mean_b):
        raise ValueError(f"a and b must be of one dimension, got {len(mean_a)} and {len(mean_b)}")
    if b.n < a.n:  # the root is taken of the one that may lack rank
        cov_a, cov_b = cov_b, cov_a
    root = _square_root(cov_a)
    eigenvalues = torch.linalg.eigvalsh(root.T @ cov_b @ root)
    cross = eigenvalues.clamp(min=0).sqrt().sum()
    distance = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross
    return max(distance.item(), 0.0)


def _square_root(covariance: Tensor) -> Tensor:
    """Some R with ``R R^T`` the covariance: Cholesky's where it is of full rank, and that takes no time."""
    eps = len(covariance) * torch.finfo(covariance.dtype).eps
    root, failed = torch.linalg.cholesky_ex(covariance)
    pivots = root.diagonal().square()
    if not failed and pivots.min() > pivots.max() * eps:
        return root
    w, v = torch.linalg.eigh(covariance)
    # What rounding leaves of a zero eigenvalue, of either sign, would come back as its square root: drop it.
    kept = w > w[-1] * eps
    return v[:, kept] * w[kept].sqrt()


def feature_moments(images: Tensor | Iterable[Tensor], features: nn.Module, batch_size: int = 500) -> Moments:
    """Moments of ``features(images)``, for one tensor of images ``(N, C, H, W)`` or for batches as they come.

    Each batch goes to the device of the features' parameters; only one batch of images and its features are
    held.

    Raises:
        ValueError: if the features are in training mode, ``batch_size`` is not positive, or there are no
            images.
    """
    moments = Moments()
    for batch in feature_batches(images, features, batch_size):
        moments.update(batch)
    if moments.n == 0:
        raise ValueError("images must not be empty")
    return moments


def fid(
    real: Tensor | Iterable[Tensor] | Moments,
    generated: Tensor | Iterable[Tensor] | Moments,
    features: nn.Module | None = None,
    batch_size: int = 500,
) -> float:
    """Fréchet distance between the features of real and of generated images.

    Zero needs equal moments, so that even two samples of one distribution keep apart: the distance between
    MNIST's two splits, ``frechet_distance(mnist_moments("train"), mnist_moments("test"))``, is 1.08, which is
    the floor against which to read a generator's. FID falls with the number of images: compare equal numbers.

    Args:
        real: images ``(N, C, H, W)`` in the range that the features expect, an iterable of such batches, or
            their moments.
        generated: likewise.
        features: module in evaluation mode, from images to ``(N, d)``; ``ClassifierFeatures()`` by default.
        batch_size: images per pass where a whole tensor was given.

    Returns:
        The distance, a float of at least 0. It is comparable only between runs that share the features.

    Raises:
        ValueError: for features that are not finite or differ in width, for fewer than 2 images on a side.

    Source: Heusel et al., 2017, equation 6, with Inception's features; Aalto CS-E4890, lecture on GANs.
    """

    def moments(side: Tensor | Iterable[Tensor] | Moments) -> Moments:
        if isinstance(side, Moments):
            return side
        module = features
        if module is None:
            module = ClassifierFeatures().to(side.device if isinstance(side, Tensor) else "cpu")
        return feature_moments(side, module, batch_size)

    return frechet_distance(moments(real), moments(generated))


@lru_cache
def _stored_moments() -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(MOMENTS)


def mnist_moments(split: str = "train") -> Moments:
    """Stored moments of ``ClassifierFeatures`` over all of MNIST's ``"train"`` or ``"test"`` images."""
    if split not in ("train", "test"):
        raise ValueError(f'split must be "train" or "test", got {split!r}')
    stored = _stored_moments()
    return Moments.of(stored[f"{split}.n"].item(), stored[f"{split}.mean"], stored[f"{split}.covariance"])
