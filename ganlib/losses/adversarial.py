r"""The adversarial losses of the lectures, each with both of its sides in one object.

``loss.discriminator(real, fake)`` and ``loss.generator(fake)`` take the discriminator's outputs *before* any
sigmoid - logits, or critic values for Wasserstein - of any shape, and return the scalar mean that the player
minimises. With :math:`D = \sigma(\ell)`,

.. math:: -\log D = \operatorname{softplus}(-\ell), \qquad -\log(1 - D) = \operatorname{softplus}(\ell),

and that is how the logarithms are computed here. A sigmoid followed by a logarithm rounds to 0 or 1 in
float32 near |logit| = 17 and then has no gradient left, just when the generator needs it most.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus


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

    Source: Arjovsky et al. 2017, eq. 2 and Algorithm 1. Lectures: UBC and MIT "Wasserstein GAN"; Aalto,
    OUC, Purdue.
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Mean critic value of the fakes minus that of real data; minus this is the distance estimate."""
        return _floats(fake).mean() - _floats(real).mean()

    def generator(self, fake: Tensor) -> Tensor:
        """Minus the mean critic value of the fakes."""
        return -_floats(fake).mean()


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
