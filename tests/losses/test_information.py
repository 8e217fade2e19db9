"""The information bound against mutual information that is known exactly, and whom its gradient reaches."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, stats
from sklearn.metrics import mutual_info_score
from torch import nn

from ganlib.losses.information import CategoricalCode, ContinuousCode, gaussian_bound, information_bound

# How often class c (row) was seen with image x (column): each class 12 times, as a uniform prior wants it.
TABLE = np.array([[7, 3, 0, 2], [1, 1, 8, 2], [3, 3, 3, 3]])
JOINT = TABLE / TABLE.sum()
POSTERIOR = (JOINT / JOINT.sum(0)).T  # (x, c)


def observed() -> tuple[torch.Tensor, torch.Tensor]:
    """The table as 36 pairs (c, x), so that a mean over the batch is an expectation."""
    pairs = [(c, x) for (c, x), n in np.ndenumerate(TABLE) for _ in range(n)]
    return tuple(torch.tensor(pairs).T)


def bound_of(q: np.ndarray) -> float:
    """The bound when Q(c | x) is the table ``q``, (x, c)."""
    c, x = observed()
    # A probability of 0 is a logit of minus infinity; -1e4 is the same after the softmax and no NaN.
    logits = torch.from_numpy(np.log(np.maximum(q, 1e-300)))
    return information_bound(CategoricalCode(3), logits[x], c).item()


# Categorical codes: everything can be summed


def test_the_true_posterior_gives_the_mutual_information():
    """scikit-learn's mutual information of the table, in nats; float64 throughout."""
    assert bound_of(POSTERIOR) == pytest.approx(mutual_info_score(None, None, contingency=TABLE), rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_another_q_loses_its_divergence_from_the_posterior(seed):
    """I - E_x KL(P(. | x) || Q(. | x)), the divergences by scipy."""
    q = np.random.default_rng(seed).dirichlet(np.ones(3), size=4)
    gap = sum(
        p * stats.entropy(true, other) for p, true, other in zip(JOINT.sum(0), POSTERIOR, q, strict=True)
    )
    information = mutual_info_score(None, None, contingency=TABLE)
    assert gap > 0.01
    assert bound_of(q) == pytest.approx(information - gap, rel=1e-12)


def test_the_posterior_is_where_the_bound_is_highest():
    """Its gradient in the logits vanishes there, and nowhere else that was tried."""
    c, x = observed()
    for q, still in ((POSTERIOR, True), (np.full((4, 3), 1 / 3), False)):
        logits = torch.from_numpy(np.log(np.maximum(q, 1e-300))).requires_grad_()
        (slope,) = torch.autograd.grad(information_bound(CategoricalCode(3), logits[x], c), logits)
        assert (slope.abs().max().item() < 1e-12) is still  # rounding of sums of 36 numbers


def test_knowing_nothing_and_knowing_all():
    code, c = CategoricalCode(10), torch.arange(10)
    # float32 logarithms, hence 1e-6.
    assert information_bound(code, torch.zeros(10, 10), c).item() == pytest.approx(0, abs=1e-6)
    sure = 100 * torch.eye(10)
    assert information_bound(code, sure, c).item() == pytest.approx(math.log(10), rel=1e-6)
    assert information_bound(code, sure, (c + 1) % 10).item() < -90, "sure and wrong costs without limit"


def test_a_softmax_too_many_would_cap_the_bound():
    """The docstring's e / (e + 9): probabilities taken for logits leave a quarter, and 0.84 nats of 2.30."""
    c = torch.arange(10)
    capped = information_bound(CategoricalCode(10), torch.eye(10, dtype=torch.float64), c).item()
    assert math.exp(capped) / 10 == pytest.approx(math.e / (math.e + 9), rel=1e-12)
    assert round(capped, 2) == 0.84


# Continuous codes: a channel whose information is an integral


def test_log_likelihood_is_scipys():
    """A sum of normal log densities over the numbers; variances come as logarithms."""
    rng = np.random.default_rng(0)
    c, mean, log_variance = (rng.uniform(-1, 1, (5, 3)) for _ in range(3))
    wanted = stats.norm(mean, np.exp(log_variance / 2)).logpdf(c).sum(1)
    outputs = torch.from_numpy(np.hstack([mean, log_variance]))
    found = ContinuousCode(3).log_likelihood(outputs, torch.from_numpy(c))
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_entropies_are_scipys(dimensions):
    wanted = dimensions * stats.uniform(-1, 2).entropy()
    assert ContinuousCode(dimensions).entropy == pytest.approx(float(wanted), rel=1e-12)
    classes = dimensions + 1
    assert CategoricalCode(classes).entropy == pytest.approx(stats.entropy(np.ones(classes)), rel=1e-12)


def test_a_noisy_channel():
    r"""x = c + s e, read by Q = N(x, s^2): the bound, the information, and what lies between.

    P(c | x) is that normal cut off at -1 and 1 and divided by Z(x). So I = log 2 - E H(P(. | x)), the bound
    is log 2 - log(2 pi e s^2) / 2, and they differ by E KL(P || Q) = -E log Z(x).
    """
    s = 0.3
    n = 400  # midpoints of equal probability, of codes and of noise: errors fall as 1 / n
    middles = (np.arange(n) + 0.5) / n
    c, e = np.meshgrid(2 * middles - 1, stats.norm.ppf(middles))
    c, x = torch.from_numpy(c.ravel()[:, None]), torch.from_numpy((c + s * e).ravel()[:, None])
    outputs = torch.cat([x, torch.full_like(x, 2 * math.log(s))], dim=1)
    bound = information_bound(ContinuousCode(1), outputs, c).item()
    # 2e-3: half the noise's variance beyond the outermost of 400 midpoints.
    assert bound == pytest.approx(math.log(2) - 0.5 * math.log(2 * math.pi * math.e * s**2), abs=2e-3)

    def density(x):
        return (stats.norm.cdf((x + 1) / s) - stats.norm.cdf((x - 1) / s)) / 2

    def lost(x):
        return stats.truncnorm((-1 - x) / s, (1 - x) / s, loc=x, scale=s).entropy()

    ends = -1 - 5 * s, 1 + 5 * s
    information = math.log(2) - integrate.quad(lambda x: density(x) * lost(x), *ends)[0]
    gap = -integrate.quad(lambda x: density(x) * math.log(2 * density(x)), *ends)[0]
    assert gap > 0.1, "a bound that is not tight"
    assert bound == pytest.approx(information - gap, abs=2e-3)


def test_a_variance_fixed_at_one_says_nothing():
    """The docstring's log 2 - log(2 pi) / 2 = -0.23, though the code is known exactly."""
    c = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]
    bound = information_bound(ContinuousCode(1, std=1.0), c, c).item()
    assert bound == pytest.approx(math.log(2) - 0.5 * math.log(2 * math.pi), rel=1e-12)
    assert round(bound, 2) == -0.23


def test_a_fixed_deviation_is_scipys():
    rng = np.random.default_rng(1)
    c, mean = rng.uniform(-1, 1, (2, 5, 3))
    wanted = stats.norm(mean, 0.4).logpdf(c).sum(1)
    found = ContinuousCode(3, std=0.4).log_likelihood(torch.from_numpy(mean), torch.from_numpy(c))
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_gaussian_bound_is_the_best_fixed_deviation():
    """Scipy's search over sigma, an entry at a time; and the docstring's -0.18 for a Q that says 0."""
    rng = np.random.default_rng(2)
    c = torch.from_numpy(rng.uniform(-1, 1, (50, 2)))
    mean = c + torch.from_numpy(rng.normal(size=(50, 2)) * [0.1, 0.5])
    for j, found in enumerate(gaussian_bound(mean, c).tolist()):
        columns = mean[:, j : j + 1], c[:, j : j + 1]
        best = optimize.minimize_scalar(
            lambda log_std, m=columns: (
                -information_bound(ContinuousCode(1, std=math.exp(log_std)), *m).item()
            ),
            bounds=(-5, 2),
            method="bounded",
        )
        assert found == pytest.approx(-best.fun, abs=1e-8)  # the search stops 1e-5 from a flat top
    even = torch.linspace(-1, 1, 20_001, dtype=torch.float64)[:, None]
    assert round(gaussian_bound(torch.zeros_like(even), even).item(), 2) == -0.18
    with pytest.raises(ValueError, match=r"mean and values must be \(N, d\)"):
        gaussian_bound(mean[:, :1], c)


# Gradients: the peers' bug is that there are none


def code_and_values(kind: str, n: int = 6) -> tuple:
    rng = torch.Generator().manual_seed(1)
    code = CategoricalCode(4) if kind == "categorical" else ContinuousCode(2)
    values = code.draw(n, rng=rng)
    return code, values if kind == "categorical" else values.double()


@pytest.mark.parametrize("kind", ["categorical", "continuous"])
def test_gradient_by_finite_differences(kind):
    code, values = code_and_values(kind)
    rng = torch.Generator().manual_seed(2)
    outputs = torch.randn(6, code.outputs, generator=rng, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda out: information_bound(code, out, values), outputs)


@pytest.mark.parametrize("kind", ["categorical", "continuous"])
def test_the_gradient_reaches_generator_and_q(kind):
    """By finite differences in every parameter of both, and no parameter of either is left out."""
    code, values = code_and_values(kind)
    rng = torch.Generator().manual_seed(3)

    def weights(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64, requires_grad=True)

    generator, q, noise = weights(code.inputs + 2, 3), weights(3, code.outputs), weights(6, 2).detach()

    def bound(generator, q):
        images = torch.tanh(torch.cat([noise, code.encode(values).double()], 1) @ generator)
        return information_bound(code, images @ q, values)

    assert torch.autograd.gradcheck(bound, (generator, q))
    for slope in torch.autograd.grad(bound(generator, q), (generator, q)):
        assert bool((slope != 0).all())


@pytest.mark.parametrize("kind", ["categorical", "continuous"])
def test_half_precision_is_summed_in_float32(kind):
    code, values = code_and_values(kind)
    outputs = torch.randn(6, code.outputs, generator=torch.Generator().manual_seed(2)).bfloat16()
    values = values if kind == "categorical" else values.float()
    found = information_bound(code, outputs, values)
    assert found.dtype == torch.float32
    assert torch.equal(found, information_bound(code, outputs.float(), values))


def test_q_trained_alone_finds_the_information():
    """Logits per image, fitted by the bound's own gradient: the supremum over Q is I itself."""
    c, x = observed()
    logits = nn.Parameter(torch.zeros(4, 3, dtype=torch.float64))
    optimizer = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = -information_bound(CategoricalCode(3), logits[x], c)
        loss.backward()
        return loss

    found = -optimizer.step(closure).item(), -closure().item()
    information = mutual_info_score(None, None, contingency=TABLE)
    # One cell of the table is 0, which logits approach without end; 1e-4 nats are left when LBFGS stops.
    assert found[1] <= information + 1e-12
    assert found[1] == pytest.approx(information, abs=1e-4)


# Drawing


def test_draws_follow_their_priors():
    """Chi-squared and Kolmogorov-Smirnov tests by scipy; at a fixed seed they pass or fail for good."""
    rng = torch.Generator().manual_seed(0)
    classes = CategoricalCode(7).draw(5000, rng=rng)
    assert classes.dtype == torch.int64
    assert stats.chisquare(np.bincount(classes, minlength=7)).pvalue > 1e-3
    numbers = ContinuousCode(2).draw(5000, rng=rng)
    assert numbers.shape == (5000, 2)
    for column in numbers.T:
        assert stats.kstest(column, stats.uniform(-1, 2).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(numbers.T)[0, 1]) < 0.05  # 3.5 standard errors of 1 / sqrt(5000)


@pytest.mark.parametrize("code", [CategoricalCode(4), ContinuousCode(3)])
def test_draws_depend_on_the_generator_alone(code):
    state = torch.get_rng_state()
    first, again = (code.draw(9, rng=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, again) and torch.equal(torch.get_rng_state(), state)


def test_encoding():
    assert CategoricalCode(3).encode(torch.tensor([2, 0])).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert CategoricalCode(2, gain=5.0).encode(torch.tensor([1])).tolist() == [[0, 5]]
    values = torch.tensor([[0.5, -1.0]])
    assert torch.equal(ContinuousCode(2).encode(values), values)


# Bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CategoricalCode(1), "classes must be at least 2, got 1"),
        (lambda: ContinuousCode(0), "dimensions must be at least 1, got 0"),
        (lambda: ContinuousCode(2, std=0.0), r"std must be positive or None, got 0\.0"),
        (lambda: CategoricalCode(10, gain=0.0), r"gain must be positive, got 0\.0"),
        (lambda: CategoricalCode(10, weight=-1.0), r"weight must be at least 0, got -1\.0"),
        (lambda: ContinuousCode(2, weight=math.nan), "weight must be at least 0, got nan"),
    ],
)
def test_refuses_codes_that_are_none(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("code", "outputs", "values", "message"),
    [
        (CategoricalCode(3), (4, 3), torch.zeros(4), r"values must be int64 \(N,\), got torch.float32"),
        (CategoricalCode(3), (4, 3), torch.zeros(4, 3).long(), r"got torch.int64 \(4, 3\)"),
        (CategoricalCode(3), (4, 2), torch.zeros(4).long(), r"outputs must be \(4, 3\), got \(4, 2\)"),
        (ContinuousCode(2), (4, 2), torch.zeros(4, 2), r"outputs must be \(4, 4\), got \(4, 2\)"),
        (ContinuousCode(2, std=1.0), (4, 4), torch.zeros(4, 2), r"outputs must be \(4, 2\), got \(4, 4\)"),
        (ContinuousCode(2), (4, 4), torch.zeros(4, 3), r"values must be floating point \(N, 2\)"),
        (ContinuousCode(2), (4, 4), torch.zeros(4, 2).long(), r"got torch.int64"),
        (ContinuousCode(2), (3, 4), torch.zeros(4, 2), r"outputs must be \(4, 4\), got \(3, 4\)"),
    ],
)
def test_refuses_what_does_not_fit(code, outputs, values, message):
    with pytest.raises(ValueError, match=message):
        information_bound(code, torch.zeros(outputs), values)
