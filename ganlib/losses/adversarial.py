r"""The adversarial losses of the lectures, each with both of its sides in one object.

``loss.discriminator(real, fake)`` and ``loss.generator(fake)`` take the discriminator's outputs *before* any
sigmoid - logits, or critic values for Wasserstein - of any shape, and return the scalar mean that the player
minimises. With :math:`D = \sigma(\ell)`,

.. math:: -\log D = \operatorname{softplus}(-\ell), \qquad -\log(1 - D) = \operatorname{softplus}(\ell),

and that is how the logarithms are computed here. A sigmoid followed by a logarithm rounds to 0 or 1 in
float32 near |logit| = 17 and then has no gradient left, just when the generator needs it most.
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import relu, softplus


class Minimax:
    r"""The two-player zero-sum game of the first GAN.

    .. math::
        L_D = -E_x \log D(x) - E_z \log(1 - D(G(z))), \qquad L_G = E_z \log(1 - D(G(z)))

    The generator's gradient with respect to a fake logit is :math:`-\sigma(\ell)`: it *saturates*, that is
    vanishes, when the discriminator is sure of the fake (:math:`\ell \to -\infty`). Compare
    :class:`NonSaturating`.

    Labels other than 1 and 0 smooth the discriminator's targets: :math:`-a \log D - (1 - a) \log(1 - D)` on
    real data with ``real_label`` :math:`a`, and likewise :math:`b` on fakes. One-sided smoothing is
    ``real_label=0.9``; smoothing the fakes too moves the optimum to :math:`(a p + b q)/(p + q)`, whose
    numerator rewards the generator for staying where it is. The generator's loss has no smoothing.

    Args:
        real_label: target on real data, in (0, 1].
        fake_label: target on fakes, in [0, 1), below ``real_label``.

    Raises:
        ValueError: unless ``0 <= fake_label < real_label <= 1``.

    Source: Goodfellow et al. 2014, eq. 1 and Algorithm 1; smoothing: Salimans et al. 2016, section 3.4.
    Lectures: UBC "Min-max loss"; MIT "GAN algorithm annotated"; OUC "Minimax Game"; Aalto, Purdue.
    """

    def __init__(self, real_label: float = 1.0, fake_label: float = 0.0) -> None:
        if not 0.0 <= fake_label < real_label <= 1.0:
            raise ValueError(
                f"labels must satisfy 0 <= fake_label < real_label <= 1, got real_label={real_label}, "
                f"fake_label={fake_label}"
            )
        self.real_label = real_label
        self.fake_label = fake_label

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Binary cross-entropy of the logits on real data plus that on fakes (a sum, not their average)."""
        return _cross_entropy(real, self.real_label) + _cross_entropy(fake, self.fake_label)

    def generator(self, fake: Tensor) -> Tensor:
        r"""The discriminator's fake term with the other sign, :math:`E \log(1 - D(G(z)))`; never positive."""
        return -softplus(_floats(fake)).mean()


class NonSaturating(Minimax):
    r"""The loss that GANs are trained with: the generator maximises :math:`\log D(G(z))` ("flip the label").

    .. math::
        L_D = -E_x \log D(x) - E_z \log(1 - D(G(z))), \qquad L_G = -E_z \log D(G(z))

    Same fixed point as :class:`Minimax`, but the gradient with respect to a fake logit is
    :math:`-\sigma(-\ell)`, close to -1 for a fake that is seen through. The game is no longer zero-sum.
    Arguments and smoothing are those of :class:`Minimax`.

    Source: Goodfellow et al. 2014, section 3. Lectures: Aalto "A non-saturating objective for the
    generator"; OUC "Non-Saturating Game".
    """

    def generator(self, fake: Tensor) -> Tensor:
        r"""Cross-entropy of the fakes against the label "real", :math:`-E \log D(G(z))`; never negative."""
        return softplus(-_floats(fake)).mean()


class Wasserstein:
    r"""The critic's estimate of the Wasserstein-1 distance, by Kantorovich-Rubinstein duality.

    .. math:: L_D = E_z f(G(z)) - E_x f(x), \qquad L_G = -E_z f(G(z))

    :math:`-L_D` approaches K times the distance only if the critic f is K-Lipschitz, which this loss cannot
    see to: add weight clipping (:func:`ganlib.losses.clip_weights_`), a
    :class:`ganlib.losses.GradientPenalty` or spectral normalization. No sigmoid anywhere: f is a score.

    A constant added to f changes nothing here, so that over a long training f may wander far from zero, where
    half precision has no digits left. With ``drift`` :math:`\varepsilon` the critic's loss has the further
    term :math:`\varepsilon E_x f(x)^2`, which is small and holds it.

    Args:
        drift: :math:`\varepsilon`, not negative.

    Raises:
        ValueError: if ``drift`` is negative.

    Source: Arjovsky et al. 2017, eq. 2 and Algorithm 1; drift: Karras et al. 2018 (Progressive GAN), appendix
    A.1 (0.001). Lectures: UBC and MIT "Wasserstein GAN"; Aalto, OUC, Purdue.
    """

    def __init__(self, drift: float = 0.0) -> None:
        if not drift >= 0:
            raise ValueError(f"drift must be at least 0, got {drift}")
        self.drift = drift

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Mean critic value of the fakes minus that of real data (minus this is the distance), and drift."""
        real = _floats(real)
        estimate = _floats(fake).mean() - real.mean()
        return estimate + self.drift * real.square().mean() if self.drift else estimate

    def generator(self, fake: Tensor) -> Tensor:
        """Minus the mean critic value of the fakes."""
        return -_floats(fake).mean()


class LeastSquares:
    r"""Squares in place of logarithms: outputs are pulled to codes, also from the far side.

    .. math::
        L_D = \tfrac12 E_x (D(x) - b)^2 + \tfrac12 E_z (D(G(z)) - a)^2, \qquad
        L_G = \tfrac12 E_z (D(G(z)) - c)^2

    With :math:`b - c = 1` and :math:`b - a = 2`, see :meth:`pearson`, an optimal discriminator makes of
    :math:`L_G + \tfrac12 E_x (D(x) - c)^2` half the Pearson :math:`\chi^2` divergence
    :math:`\sum (p_r - p_g)^2 / (p_r + p_g)` between :math:`p_r + p_g` and :math:`2 p_g`. The added term moves
    no generator while D stands still. The common choice is the default, a = 0 and b = c = 1, for which the
    same sum is 1/4 plus an eighth of that divergence: any codes give it up to scale and shift. D is a plain
    score here, without a sigmoid.

    Args:
        fake: a, the code of fakes.
        real: b, the code of real data.
        target: c, what the generator wants its fakes to be taken for.

    Raises:
        ValueError: if a code is not finite, or ``real`` equals ``fake``.

    Source: Mao et al. 2017, section 3.2 (eq. 2) and 3.3. Lectures: MIT "Brief: LSGAN, EBGAN"; UBC "LSGAN".
    """

    def __init__(self, fake: float = 0.0, real: float = 1.0, target: float = 1.0) -> None:
        if not all(map(math.isfinite, (fake, real, target))) or fake == real:
            raise ValueError(
                f"codes must be finite, real and fake distinct, got fake={fake}, real={real}, target={target}"
            )
        self.fake, self.real, self.target = fake, real, target

    @classmethod
    def pearson(cls) -> LeastSquares:
        r"""The codes a = -1, b = 1, c = 0, for which G's objective is a :math:`\chi^2` divergence."""
        return cls(fake=-1.0, real=1.0, target=0.0)

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Half the mean squared distance of real outputs to ``real``, plus that of fakes to ``fake``."""
        return _half_square(real, self.real) + _half_square(fake, self.fake)

    def generator(self, fake: Tensor) -> Tensor:
        """Half the mean squared distance of the fakes' outputs to ``target``."""
        return _half_square(fake, self.target)


class Hinge:
    r"""A discriminator that stops caring once a sample is on its side by a margin of 1.

    .. math::
        L_D = E_x \max(0, 1 - D(x)) + E_z \max(0, 1 + D(G(z))), \qquad L_G = -E_z D(G(z))

    Samples beyond the margin give D no gradient, as support vector machines have it; the generator's slope is
    -1 everywhere. The least :math:`L_D` over all D is 2 minus twice the total variation of :math:`p_r` and
    :math:`p_g`, reached by the sign of :math:`p_r - p_g`. Smoothness has to come from elsewhere, as from
    spectral normalization: nothing here bounds D's slope.

    Source: Lim and Ye 2017, "Geometric GAN"; Miyato et al. 2018, eqs. 16 and 17. Lecture: Aalto
    "Spectral Normalization".
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Mean shortfall of real outputs below 1, plus mean excess of the fakes' above -1."""
        return relu(1.0 - _floats(real)).mean() + relu(1.0 + _floats(fake)).mean()

    def generator(self, fake: Tensor) -> Tensor:
        """Minus the mean output on the fakes."""
        return -_floats(fake).mean()


class EnergyMargin:
    r"""The energy-based GAN: D gives real data low energy, and fakes energy at least ``margin``.

    .. math::
        L_D = E_x D(x) + E_z \max(0, m - D(G(z))), \qquad L_G = E_z D(G(z))

    D's output is an energy :math:`D(x) \ge 0`, in the paper an autoencoder's reconstruction error per sample
    (:mod:`ganlib.models.ebgan`): note the sign, *low* means real. A fake beyond the margin costs D nothing.

    Args:
        margin: m, positive; in units of the energy.

    Raises:
        ValueError: if ``margin`` is not positive and finite.

    Source: Zhao et al. 2017, eqs. 1 and 2. Lecture: MIT "Brief: LSGAN, EBGAN".
    """

    def __init__(self, margin: float = 10.0) -> None:
        if not 0 < margin < math.inf:
            raise ValueError(f"margin must be positive, got {margin}")
        self.margin = margin

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Mean energy of real data, plus the fakes' mean shortfall below the margin."""
        return _floats(real).mean() + relu(self.margin - _floats(fake)).mean()

    def generator(self, fake: Tensor) -> Tensor:
        """Mean energy of the fakes."""
        return _floats(fake).mean()


class RelativisticPairing:
    r"""Each fake is judged beside a real sample: D says which of the two is more real.

    .. math::
        L_D = E_{x, z} \big[-\log \sigma(D(x) - D(G(z)))\big], \qquad
        L_G = E_{x, z} \big[-\log \sigma(D(G(z)) - D(x))\big]

    Only differences count, so every real sample keeps a boundary of its own with the fakes beside it, which
    removes the basins where modes are dropped. Alone the loss need not converge; with R1 and R2 it does
    locally. The generator's loss takes the outputs on real data too.

    Source: Jolicoeur-Martineau 2019 (the pairing); Huang et al. 2024, "The GAN is dead; long live the GAN!",
    section 2 (with R1 and R2).
    """

    relativistic = True  # tells a game to hand the real outputs to the generator's loss as well

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Mean softplus of fake minus real outputs, pair by pair.

        Raises:
            ValueError: if the two differ in shape.
        """
        _check_pairs(real, fake)
        return softplus(_floats(fake) - _floats(real)).mean()

    def generator(self, fake: Tensor, real: Tensor) -> Tensor:
        """Mean softplus of real minus fake outputs, pair by pair; errors as of :meth:`discriminator`."""
        _check_pairs(real, fake)
        return softplus(_floats(real) - _floats(fake)).mean()


def _check_pairs(real: Tensor, fake: Tensor) -> None:
    if real.shape != fake.shape:
        raise ValueError(
            f"real and fake must be paired, got shapes {tuple(real.shape)} and {tuple(fake.shape)}"
        )


def _half_square(outputs: Tensor, code: float) -> Tensor:
    return 0.5 * (_floats(outputs) - code).square().mean()


def _cross_entropy(logits: Tensor, label: float) -> Tensor:
    """Mean of -label log(sigma) - (1 - label) log(1 - sigma), without cancellation at either end."""
    logits = _floats(logits)
    loss = label * softplus(-logits)
    return (loss if label == 1.0 else loss + (1.0 - label) * softplus(logits)).mean()


def _floats(outputs: Tensor) -> Tensor:
    # Under autocast a discriminator ends in bfloat16, whose 8 bits are too few for a mean and its logarithm.
    if outputs.numel() == 0:
        raise ValueError(f"discriminator outputs must not be empty, got shape {tuple(outputs.shape)}")
    return outputs if outputs.dtype.itemsize >= 4 else outputs.float()
