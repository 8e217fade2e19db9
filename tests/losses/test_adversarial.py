"""Adversarial losses: values against torch and scipy, gradients against closed forms, far into saturation."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits

from ganlib.losses import Minimax, NonSaturating, Wasserstein

SMOOTHED = [(1.0, 0.0), (0.9, 0.0), (0.9, 0.1), (0.7, 0.2)]
EXTREME = [-100.0, -40.0, -30.0, -20.0, -1.0, 0.0, 1.0, 20.0, 30.0, 40.0, 100.0]


def logits(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gradient(loss, *inputs: torch.Tensor) -> list[torch.Tensor]:
    inputs = [x.clone().requires_grad_() for x in inputs]
    return list(torch.autograd.grad(loss(*inputs), inputs))


# Values


@pytest.mark.parametrize("loss", [Minimax, NonSaturating])
@pytest.mark.parametrize(("a", "b"), SMOOTHED)
def test_discriminator_is_binary_cross_entropy_on_probabilities(loss, a, b):
    real, fake = logits(7, seed=1), logits(11, seed=2)
    expected = binary_cross_entropy(real.sigmoid(), torch.full_like(real, a)) + binary_cross_entropy(
        fake.sigmoid(), torch.full_like(fake, b)
    )
    # float64 throughout: only rounding separates the two ways of writing it.
    torch.testing.assert_close(loss(a, b).discriminator(real, fake), expected, rtol=1e-12, atol=0)


def test_generator_values_against_scipy():
    fake = logits(50)
    minimax, flipped = Minimax().generator(fake), NonSaturating().generator(fake)
    # log(1 - sigma(l)) = log sigma(-l); scipy's log_expit is stable on its own.
    np.testing.assert_allclose(minimax.item(), log_expit(-fake.numpy()).mean(), rtol=1e-13)
    np.testing.assert_allclose(flipped.item(), -log_expit(fake.numpy()).mean(), rtol=1e-13)


def test_undecided_discriminator_scores_log_4():
    zeros = torch.zeros(5)
    assert Minimax().discriminator(zeros, zeros).item() == pytest.approx(math.log(4), rel=1e-6)
    assert Minimax().generator(zeros).item() == pytest.approx(-math.log(2), rel=1e-6)
    assert NonSaturating().generator(zeros).item() == pytest.approx(math.log(2), rel=1e-6)


def test_minimax_is_zero_sum_in_the_fakes():
    """Moving the fakes changes what D pays and what G pays by opposite amounts."""
    real, fake = logits(9, seed=3), logits(9, seed=4)
    (d,) = gradient(lambda f: Minimax().discriminator(real, f), fake)
    (g,) = gradient(Minimax().generator, fake)
    torch.testing.assert_close(d, -g)


def test_wasserstein_is_a_difference_of_means():
    real, fake = logits(4, seed=5), logits(6, seed=6)
    loss = Wasserstein()
    np.testing.assert_allclose(loss.discriminator(real, fake), fake.numpy().mean() - real.numpy().mean())
    np.testing.assert_allclose(loss.generator(fake), -fake.numpy().mean())
    # The scores have no natural zero: adding a constant to the critic changes nothing in D's loss.
    torch.testing.assert_close(loss.discriminator(real + 5, fake + 5), loss.discriminator(real, fake))


# Gradients


@pytest.mark.parametrize("logit", EXTREME)
def test_generator_gradients_are_right_far_into_saturation(logit):
    """-sigma(l) and -sigma(-l), in float32: the second is -1 where the discriminator is surest."""
    fake = torch.tensor([logit])
    (saturating,) = gradient(Minimax().generator, fake)
    (flipped,) = gradient(NonSaturating().generator, fake)
    # float32 has 24 bits, of which a softplus may lose a few; below 1e-38 only zero is left.
    assert saturating.item() == pytest.approx(-expit(logit), rel=1e-5, abs=1e-38)
    assert flipped.item() == pytest.approx(-expit(-logit), rel=1e-5, abs=1e-38)


@pytest.mark.parametrize("logit", EXTREME)
@pytest.mark.parametrize(("a", "b"), SMOOTHED)
def test_discriminator_gradients_are_sigmoid_minus_label(logit, a, b):
    x = torch.tensor([logit])
    real, fake = gradient(Minimax(a, b).discriminator, x, x)
    # sigma - a cancels where the two are close: an absolute error of a float32 rounding is all one can ask.
    assert real.item() == pytest.approx(expit(logit) - a, rel=1e-5, abs=1e-7)
    assert fake.item() == pytest.approx(expit(logit) - b, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("logit", [20.0, 30.0, 40.0])
def test_unsmoothed_discriminator_keeps_its_tiny_gradients(logit):
    """sigma(l) - 1 = -sigma(-l) without the cancellation, where 1 - sigma rounds to 0 in float32."""
    real, fake = gradient(NonSaturating().discriminator, torch.tensor([logit]), torch.tensor([-logit]))
    assert real.item() == pytest.approx(-expit(-logit), rel=1e-5)
    assert fake.item() == pytest.approx(expit(-logit), rel=1e-5)


@pytest.mark.parametrize("value", [-100.0, 100.0, -1e4, 1e4])
@pytest.mark.parametrize("loss", [Minimax(), NonSaturating(), NonSaturating(0.9, 0.1), Wasserstein()])
def test_everything_stays_finite(loss, value):
    x = torch.full((3,), value)
    for side, inputs in ((loss.discriminator, (x, x)), (loss.generator, (x,))):
        assert side(*inputs).isfinite()
        assert all(g.isfinite().all() for g in gradient(side, *inputs))


@pytest.mark.parametrize("loss", [Minimax(), Minimax(0.9, 0.1), NonSaturating(), Wasserstein()])
def test_gradients_by_finite_differences(loss):
    real, fake = logits(5, seed=7).requires_grad_(), logits(5, seed=8).requires_grad_()
    assert torch.autograd.gradcheck(loss.discriminator, (real, fake))
    assert torch.autograd.gradcheck(loss.generator, (fake,))


def test_wasserstein_gradients():
    real, fake = gradient(Wasserstein().discriminator, logits(4), logits(8))
    assert torch.equal(real, torch.full_like(real, -1 / 4)) and torch.equal(
        fake, torch.full_like(fake, 1 / 8)
    )
    (fake,) = gradient(Wasserstein().generator, logits(8))
    assert torch.equal(fake, torch.full_like(fake, -1 / 8))


@pytest.mark.parametrize("loss", [Minimax(), NonSaturating(0.9), Wasserstein()])
def test_both_inputs_receive_a_gradient_and_descent_separates_them(loss):
    """The signs: D's step raises real outputs and lowers fake ones, G's step raises fake ones."""
    real, fake = gradient(loss.discriminator, torch.zeros(3), torch.zeros(3))
    assert (real < 0).all() and (fake > 0).all()
    assert (gradient(loss.generator, torch.zeros(3))[0] < 0).all()


# Label smoothing


@pytest.mark.parametrize(("a", "b"), [(1.0, 0.0), (0.9, 0.0), (0.9, 0.1)])
@pytest.mark.parametrize(("p", "q"), [(0.8, 0.3), (0.2, 1.5)])
def test_optimal_output_under_smoothing(a, b, p, q):
    """With densities p, q at a point the best D there is (a p + b q) / (p + q) (Salimans et al. 2016)."""

    def risk(logit: float) -> float:
        x = torch.tensor([logit], dtype=torch.float64)
        real, fake = Minimax(a, b), Minimax(a, b)
        # The loss is linear in each side's density, so weigh the two sides apart.
        far = torch.tensor([0.0], dtype=torch.float64)
        real_part = real.discriminator(x, far) - real.discriminator(far, far)
        fake_part = fake.discriminator(far, x) - fake.discriminator(far, far)
        return p * real_part.item() + q * fake_part.item()

    optimum = minimize_scalar(risk, bounds=(-20, 20), method="bounded", options={"xatol": 1e-9}).x
    wanted = math.log((a * p + b * q) / ((1 - a) * p + (1 - b) * q))
    # A minimum is flat: its place is only determined to the square root of the value's precision.
    assert optimum == pytest.approx(wanted, abs=1e-6)


def test_one_sided_smoothing_leaves_the_fakes_alone():
    x = logits(6)
    (plain,) = gradient(lambda f: Minimax().discriminator(x, f), x)
    (smoothed,) = gradient(lambda f: Minimax(real_label=0.9).discriminator(x, f), x)
    assert torch.equal(plain, smoothed)


def test_smoothing_leaves_the_generator_alone():
    x = logits(6)
    assert torch.equal(NonSaturating(0.9, 0.1).generator(x), NonSaturating().generator(x))
    assert torch.equal(Minimax(0.9, 0.1).generator(x), Minimax().generator(x))


# Shapes, types, input


@pytest.mark.parametrize("loss", [Minimax(0.9, 0.1), NonSaturating(), Wasserstein()])
@pytest.mark.parametrize("shape", [(), (1,), (12, 1), (3, 1, 2, 2)])
def test_any_shape_gives_the_scalar_mean_over_all_elements(loss, shape):
    real, fake = logits(*shape, seed=1), logits(*shape, seed=2)
    assert loss.discriminator(real, fake).shape == loss.generator(fake).shape == ()
    torch.testing.assert_close(
        loss.discriminator(real, fake), loss.discriminator(real.reshape(-1), fake.reshape(-1))
    )
    torch.testing.assert_close(loss.generator(fake), loss.generator(fake.reshape(-1)))


@pytest.mark.parametrize("loss", [Minimax(0.9), NonSaturating(), Wasserstein()])
def test_a_repeated_batch_costs_the_same(loss):
    """A mean, not a sum: the batch's size does not change the step."""
    real, fake = logits(8, seed=1), logits(8, seed=2)
    torch.testing.assert_close(
        loss.discriminator(real.repeat(3), fake.repeat(5)), loss.discriminator(real, fake)
    )
    torch.testing.assert_close(loss.generator(fake.repeat(7)), loss.generator(fake))


@pytest.mark.parametrize("loss", [Minimax(0.9), NonSaturating(), Wasserstein()])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_outputs_are_averaged_in_float32(loss, dtype):
    """1,000 values: a bfloat16 mean could be off by 1 in 256, the float32 mean of them is exact to 1e-6."""
    real, fake = logits(1000, seed=1).to(dtype), logits(1000, seed=2).to(dtype)
    for side, inputs in ((loss.discriminator, (real, fake)), (loss.generator, (fake,))):
        value = side(*inputs)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), side(*(x.double() for x in inputs)), rtol=1e-5, atol=1e-6)
        assert all(g.dtype == dtype and g.isfinite().all() for g in gradient(side, *inputs))


def test_float32_against_torch():
    real, fake = logits(100, seed=1, dtype=torch.float32), logits(100, seed=2, dtype=torch.float32)
    expected = binary_cross_entropy_with_logits(real, torch.ones(100)) + binary_cross_entropy_with_logits(
        fake, torch.zeros(100)
    )
    torch.testing.assert_close(NonSaturating().discriminator(real, fake), expected)


@pytest.mark.parametrize(
    ("a", "b"),
    [(0.0, 0.0), (0.5, 0.5), (0.1, 0.9), (1.1, 0.0), (0.9, -0.1), (math.nan, 0.0), (1.0, math.nan)],
)
@pytest.mark.parametrize("loss", [Minimax, NonSaturating])
def test_impossible_labels_are_refused(loss, a, b):
    with pytest.raises(ValueError, match=r"real_label.*fake_label"):
        loss(a, b)


@pytest.mark.parametrize("loss", [Minimax(), NonSaturating(), Wasserstein()])
def test_empty_outputs_are_refused(loss):
    """The mean of nothing would be NaN."""
    some, none = torch.zeros(3), torch.zeros(0, 1)
    for call in (
        lambda: loss.discriminator(none, some),
        lambda: loss.discriminator(some, none),
        lambda: loss.generator(none),
    ):
        with pytest.raises(ValueError, match=r"empty.*\(0, 1\)"):
            call()
