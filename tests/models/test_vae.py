"""The VAE's bound against exact likelihoods: PPCA by sklearn, distributions by scipy and torch."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.decomposition import PCA
from torch import nn

from ganlib.data import Images, mnist
from ganlib.models import dcgan
from ganlib.models.dcgan import Encoder
from ganlib.models.vae import (
    VAE,
    Bernoulli,
    Gaussian,
    active_latents,
    best_pictures,
    kl_to_prior,
    log_likelihood,
    logits_of,
    recipe,
    reparametrise,
    sharpness,
    sign_code,
)
from ganlib.theory.divergences import gaussian_kl
from ganlib.training import Budget


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


# Likelihoods


def test_bernoulli_is_scipys_on_black_and_white():
    logits, images = noise(4, 1, 3, 2), noise(4, 1, 3, 2, seed=1).sign()
    white, share = (images > 0).int().numpy(), logits.sigmoid().numpy()
    expected = stats.bernoulli.logpmf(white, share).sum((1, 2, 3))
    # float64 on both sides.
    assert Bernoulli().log_prob(logits, images).numpy() == pytest.approx(expected, rel=1e-12)
    # Where a sigmoid rounds to one and its logarithm's partner to minus infinity.
    sure = Bernoulli().log_prob(torch.full((1, 1), 200.0), torch.tensor([[-1.0]]))
    assert sure.item() == -200.0


def test_bernoulli_of_grey_is_the_mean_over_drawn_pictures():
    """All eight black-and-white pictures of three grey pixels, weighted by their probabilities."""
    grey, logits = torch.tensor([[0.2, 0.7, 0.9]], dtype=torch.float64), noise(1, 3)
    drawn = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 3)
    weights = torch.where(drawn > 0, grey, 1 - grey).prod(1)
    each = Bernoulli().log_prob(logits.expand(8, 3), 2 * drawn - 1)
    assert Bernoulli().log_prob(logits, 2 * grey - 1).item() == pytest.approx(
        (weights * each).sum().item(), rel=1e-12
    )


def test_gaussian_is_scipys():
    means, images = noise(4, 1, 3, 2), noise(4, 1, 3, 2, seed=1)
    expected = stats.norm.logpdf(images.numpy(), means.numpy(), 0.3).sum((1, 2, 3))
    # sigma is a float32 parameter, seven digits.
    assert Gaussian(0.3).log_prob(means, images).detach().numpy() == pytest.approx(expected, rel=1e-6)


def test_learnt_sigma_settles_at_the_root_mean_square_error():
    """The slope by log sigma is sum(error^2)/sigma^2 - n: zero at the RMS error, and only there."""
    means, images = noise(50, 1, 4, 4), noise(50, 1, 4, 4, seed=1)
    rms = (images - means).square().mean().sqrt().item()

    def slope(sigma: float) -> float:
        likelihood = Gaussian(sigma, learnt=True)
        likelihood.log_prob(means, images).mean().backward()
        return likelihood.log_sigma.grad.item()

    assert slope(rms) == pytest.approx(0, abs=1e-4)  # of sums of 16 in float32 sigma
    assert slope(0.9 * rms) == pytest.approx(16 * (1 / 0.81 - 1), rel=1e-4)
    assert [p.requires_grad for p in Gaussian(0.3).parameters()] == [False]


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian(0.5)], ids=["bernoulli", "gaussian"])
def test_draws_have_the_stated_mean(likelihood):
    outputs = noise(1, 1, 2, 2).expand(20_000, 1, 2, 2)
    drawn = likelihood.sample(outputs, seeded()).detach()
    # Standard deviation at most 1 over 20,000 draws: four standard errors are 0.028.
    assert drawn.mean(0).numpy() == pytest.approx(likelihood.mean(outputs[0]).numpy(), abs=0.03)
    if isinstance(likelihood, Bernoulli):
        assert set(drawn.unique().tolist()) == {-1.0, 1.0}
    else:
        assert (drawn - outputs).std().item() == pytest.approx(0.5, abs=0.01)  # 80,000 numbers


def test_likelihoods_refuse_other_shapes_and_sigmas():
    with pytest.raises(ValueError, match=r"outputs must be \(2, 1, 4, 4\).*\(2, 1, 8, 8\)"):
        Bernoulli().log_prob(torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 4, 4))
    with pytest.raises(ValueError, match="sigma must be positive, got 0"):
        Gaussian(0)


# KL and the sample


def test_kl_is_that_of_the_theory_and_of_torch():
    mean, log_variance = noise(6, 3), noise(6, 3, seed=1)
    found = kl_to_prior(mean, log_variance)
    std = (log_variance / 2).exp()
    assert found.numpy() == pytest.approx(gaussian_kl(mean, std, 0.0, 1.0).sum(1), rel=1e-12)
    q, p = torch.distributions.Normal(mean, std), torch.distributions.Normal(0.0, 1.0)
    theirs = torch.distributions.kl_divergence(q, p).sum(1)
    assert found.numpy() == pytest.approx(theirs.numpy(), rel=1e-6)  # p is of float32
    assert kl_to_prior(torch.zeros(1, 5), torch.zeros(1, 5)).item() == 0


def test_kl_is_the_mean_log_ratio_of_draws():
    mean, log_variance = torch.tensor([[0.8, -0.3]]), torch.tensor([[-1.0, 0.5]])
    n = 100_000
    z = reparametrise(mean.expand(n, 2), log_variance.expand(n, 2), seeded())
    q = torch.distributions.Normal(mean, (log_variance / 2).exp())
    ratio = (q.log_prob(z) - torch.distributions.Normal(0.0, 1.0).log_prob(z)).sum(1)
    error = ratio.std().item() / math.sqrt(n)
    assert kl_to_prior(mean, log_variance).item() == pytest.approx(ratio.mean().item(), abs=4 * error)


def test_sample_has_the_pathwise_slopes():
    """dz/dmu = 1 and dz/dlog(variance) = (z - mu) / 2, from z itself."""
    mean, log_variance = noise(4, 3).requires_grad_(), noise(4, 3, seed=1).requires_grad_()
    z = reparametrise(mean, log_variance, seeded())
    by_mean, by_spread = torch.autograd.grad(z.sum(), (mean, log_variance))
    assert by_mean.tolist() == torch.ones(4, 3).tolist()
    assert by_spread.numpy() == pytest.approx(((z - mean) / 2).detach().numpy(), rel=1e-12)


class Constant(nn.Module):
    """An encoder that says the same of every image: mean and log variance are its parameters."""

    def __init__(self, mean: torch.Tensor, log_variance: torch.Tensor) -> None:
        super().__init__()
        self.mean, self.log_variance = nn.Parameter(mean), nn.Parameter(log_variance)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.mean, self.log_variance]).expand(len(x), -1)


def linear(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0]).double()
    layer.weight.data.copy_(weight)
    layer.bias.data.copy_(bias)
    layer.latent_dim = weight.shape[1]
    return layer


def test_gradient_of_the_bound_is_the_closed_form_for_a_linear_decoder():
    r"""With x|z ~ N(Wz, s^2): E|x - Wz|^2 = |x - W mu|^2 + sum_j |W_j|^2 v_j, so its slopes are known.

    By mu: -W'(x - W mu)/s^2 + mu. By log v: (|W_j|^2 v_j / s^2 + v_j - 1)/2.
    """
    w, x, mu, log_v, s = noise(4, 2), noise(1, 4, seed=1), noise(2, seed=2), noise(2, seed=3) - 1, 0.7
    game = VAE(Constant(mu.clone(), log_v.clone()), linear(w, torch.zeros(4)), Gaussian(s))
    torch.manual_seed(0)
    n = 100_000
    sum(game.loss("autoencoder", (x.expand(n, 4),)).values()).backward()
    by_mu = -w.T @ (x[0] - w @ mu) / s**2 + mu
    by_log_v = (w.square().sum(0) * log_v.exp() / s**2 + log_v.exp() - 1) / 2
    # Standard errors over 100,000 draws are below 0.01 here; four of them.
    assert game.encoder.mean.grad.numpy() == pytest.approx(by_mu.numpy(), abs=0.04)
    assert game.encoder.log_variance.grad.numpy() == pytest.approx(by_log_v.numpy(), abs=0.04)


# The bound where the likelihood is known


def correlated(n: int = 300) -> torch.Tensor:
    spread = torch.tensor([3.0, 2.0, 0.6, 0.5, 0.4], dtype=torch.float64)
    turn = torch.linalg.qr(noise(5, 5, seed=7)).Q
    return (noise(n, 5, seed=8) * spread) @ turn + noise(5, seed=9)


def ppca(x: torch.Tensor, widen: float = 0.0) -> tuple[VAE, torch.Tensor]:
    """The linear VAE of Tipping and Bishop with its exact posterior, and sklearn's log-likelihoods.

    W = U (L - s^2)^(1/2), M = W'W + s^2 is diagonal, q(z|x) = N(M^-1 W'(x - mean), s^2 M^-1): an encoder of
    independent latents can be exact. ``widen`` is added to its log variances.
    """
    fit = PCA(2, svd_solver="full").fit(x.numpy())
    s2, mean = fit.noise_variance_, torch.from_numpy(fit.mean_)
    w = torch.from_numpy(fit.components_.T * np.sqrt(fit.explained_variance_ - s2))
    m = w.square().sum(0) + s2
    into = torch.cat([w.T / m[:, None], torch.zeros(2, 5, dtype=torch.float64)])
    bias = torch.cat([-(w.T / m[:, None]) @ mean, (s2 / m).log() + widen])
    game = VAE(linear(into, bias), linear(w, mean), Gaussian(math.sqrt(s2)).double())
    game.likelihood.log_sigma.data.fill_(math.log(s2) / 2)
    return game, torch.from_numpy(fit.score_samples(x.numpy()))


def test_bound_is_the_likelihood_where_the_encoder_is_the_posterior():
    """Every importance weight is p(x), whatever z was drawn; and the ELBO is log p(x) on average."""
    x = correlated()
    game, exact = ppca(x)
    for k in (1, 3):
        # The draws are float32: seven digits of numbers near 8.
        assert log_likelihood(game, x, k, seeded(k)).numpy() == pytest.approx(exact.numpy(), abs=1e-5)
    parts = [game.bound(x, seeded(i)) for i in range(200)]
    elbo = -torch.stack([part["reconstruction"] + part["kl"] for part in parts]).detach()
    error = elbo.mean(1).std().item() / math.sqrt(200)
    assert elbo.mean().item() == pytest.approx(exact.mean().item(), abs=4 * error)


def test_elbo_falls_short_by_the_divergence_from_the_posterior_and_more_draws_close_the_gap():
    """q's variances e^w too large: KL(q || posterior) = (e^w - 1 - w) / 2 per latent, here two."""
    x, w = correlated(), 1.0
    game, exact = ppca(x, widen=w)
    draws = [log_likelihood(game, x, 1, seeded(i)).mean() for i in range(100)]
    gap = exact.mean() - torch.stack(draws).mean()
    error = torch.stack(draws).std().item() / 10
    assert gap.item() == pytest.approx(math.e - 2, abs=4 * error + 1e-5)
    bounds = [log_likelihood(game, x, k, seeded()).mean().item() for k in (1, 4, 16, 256)]
    assert bounds == sorted(bounds)
    # What is left falls as 1/k (a hundredth of the gap at 256), on top of noise a tenth of that.
    assert exact.mean().item() - 0.02 < bounds[-1] < exact.mean().item() + 0.005


def test_a_trained_linear_vae_finds_ppca():
    """Adam on the sampled bound, sigma learnt: within 0.05 nats of sklearn's mean log-likelihood."""
    x = correlated()
    _, exact = ppca(x)
    torch.manual_seed(0)
    game = VAE(nn.Linear(5, 4).double(), linear(noise(5, 2), torch.zeros(5)), Gaussian(learnt=True).double())
    optimizer = torch.optim.Adam(game.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, 300)
    for _ in range(300):
        optimizer.zero_grad()
        sum(game.loss("autoencoder", (x,)).values()).backward()
        optimizer.step()
        schedule.step()
    found = log_likelihood(game, x, 16, seeded()).mean().item()
    # Above it only by the noise of the draws; 0.05 is what 300 noisy steps leave.
    assert exact.mean().item() - 0.05 < found < exact.mean().item() + 0.01


def test_log_likelihood_refuses_no_draws():
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        log_likelihood(ppca(correlated())[0], correlated(), 0)


# The game


def small(likelihood: nn.Module | None = None, size: int = 8) -> VAE:
    torch.manual_seed(0)
    decoder = logits_of(dcgan.Generator(3, 4, 1, size))
    return VAE(Encoder(6, 4, 1, size), decoder, Bernoulli() if likelihood is None else likelihood)


def test_terms_reach_the_networks_they_depend_on():
    game = small(Gaussian(learnt=True))
    x = torch.rand(6, 1, 8, 8, generator=seeded()) * 2 - 1
    terms = game.loss("autoencoder", (x,))
    assert list(terms) == ["reconstruction", "kl"]

    def reached(term: torch.Tensor) -> set[str]:
        game.zero_grad()
        term.backward(retain_graph=True)
        return {
            name
            for name, part in game.named_children()
            if all(p.grad is not None and bool(p.grad.any()) for p in part.parameters())
            and list(part.parameters())
        }

    # Nearly all: the shift before a batch norm may be exactly zero, so ask for the networks' ends.
    assert "likelihood" in reached(terms["reconstruction"])
    assert game.decoder.layers[-1].weight.grad.any() and game.encoder.layers[0].weight.grad.any()
    assert reached(terms["kl"]) <= {"encoder"}
    assert game.decoder.layers[-1].weight.grad is None and game.encoder.layers[0].weight.grad.any()
    owned = {id(p) for p in game.players["autoencoder"].parameters()}
    assert owned == {id(p) for p in game.parameters()}


def test_terms_are_sums_per_image_and_means_over_the_batch():
    """With logits at zero each of 64 pixels costs log 2; each latent costs (mu^2 + v - 1 - log v)/2."""
    game = small()
    for layer in (game.encoder.layers[-2], game.decoder.layers[-1]):
        nn.init.zeros_(layer.weight)
    game.encoder.layers[-2].bias.data = torch.tensor([1.0, -1.0, 0.0, 0.0, 0.0, math.log(4.0)])
    terms = game.loss("autoencoder", (torch.rand(5, 1, 8, 8, generator=seeded()) * 2 - 1,))
    assert terms["reconstruction"].item() == pytest.approx(64 * math.log(2), rel=1e-5)
    assert terms["kl"].item() == pytest.approx((1 + 1 + 4 - 1 - math.log(4)) / 2, rel=1e-5)


def test_terms_are_float32_under_autocast():
    game = small()
    with torch.autocast("cpu", torch.bfloat16):
        terms = game.loss("autoencoder", (torch.zeros(4, 1, 8, 8),))
    assert {term.dtype for term in terms.values()} == {torch.float32}


def test_encoder_must_fit_the_decoder():
    game = VAE(Encoder(4, 4, 1, 8), dcgan.Generator(3, 4, 1, 8), Bernoulli())
    with pytest.raises(ValueError, match=r"must give \(2, 6\), got \(2, 4\)"):
        game.encode(torch.zeros(2, 1, 8, 8))


def test_decoder_is_the_gans_generator_without_its_tanh():
    torch.manual_seed(0)
    generator = dcgan.Generator(3, 4, 1, 8).eval()
    generator.layers[-2].weight.data.mul_(100)  # far from zero, where tanh is not the identity
    z = torch.randn(5, 3, generator=seeded())
    images = generator(z).detach()
    assert images.abs().max() > 0.3
    logits = logits_of(generator)(z).detach()
    # tanh(a) is the mean for logits of 2 a; float32.
    assert Bernoulli().mean(2 * logits).numpy() == pytest.approx(images.numpy(), abs=1e-6)


def test_recipe_has_the_dcgan_recipes_generator():
    data = Images(torch.zeros(64, 1, 32, 32), torch.zeros(64, dtype=torch.int64))
    networks = recipe(Budget.CPU, data).game.decoder, dcgan.recipe(Budget.CPU, data).game.generator
    shapes = [[tuple(p.shape) for p in network.parameters()] for network in networks]
    assert shapes[0] == shapes[1]


def test_samples_are_means_and_noisy_ones_draws():
    game = small()
    means, noisy = game.sample(4, seeded()), game.sample(4, seeded(), noisy=True)
    assert means.shape == noisy.shape == (4, 1, 8, 8) and means.abs().max() < 1
    assert set(noisy.unique().tolist()) <= {-1.0, 1.0}
    assert game.reconstruct(torch.zeros(3, 1, 8, 8)).shape == (3, 1, 8, 8)


def test_active_latents_are_those_that_vary():
    """Means x, 0.11 x, 0.09 x for x of unit variance: variances 1, 0.0121, 0.0081; the threshold is 0.01."""
    into = torch.cat([torch.diag(torch.tensor([1.0, 0.11, 0.09])), torch.zeros(3, 3)]).double()
    game = VAE(linear(into, torch.zeros(6)), linear(torch.eye(3), torch.zeros(3)), Gaussian())
    x = noise(1000, 3)
    x = (x - x.mean(0)) / x.std(0)
    assert active_latents(game, x) == 2


def test_report_at_smoke():
    experiment = recipe(Budget.SMOKE)
    figures = experiment.evaluate(experiment.game)
    assert figures["elbo"] == pytest.approx(-figures["reconstruction"] - figures["kl"], rel=1e-6)
    # Black or white at even odds costs log 2 for each of 1,024 pixels: what an untrained decoder says.
    assert figures["reconstruction"] == pytest.approx(1024 * math.log(2), rel=0.05)
    assert figures["importance_gain"] >= -0.5, "the bound of four draws, noise aside"
    assert figures["fid_noisy"] != figures["fid"] and figures["active_latents"] == 0


# Blur


def test_sharpness_of_a_wave():
    """Forward differences of sin(w i) have the mean square 4 sin^2(w/2) times the wave's."""
    for turns in (1, 3):
        w = 2 * math.pi * turns / 32
        wave = torch.sin(w * torch.arange(32)).expand(1, 1, 32, 32)
        assert sharpness(wave).item() == pytest.approx(2 * math.sin(w / 2), rel=1e-6)
        assert sharpness(5 - 3 * wave.mT).item() == pytest.approx(2 * math.sin(w / 2), rel=1e-6)
    with pytest.raises(ValueError, match=r"\(N, C, H, W\), got \(32, 32\)"):
        sharpness(torch.zeros(32, 32))


def test_blur_lowers_sharpness_and_noise_raises_it():
    digits = mnist("test").images[:50]
    blurred = nn.functional.avg_pool2d(digits, 3, 1, 1, count_include_pad=False)
    noisy = digits + 0.3 * torch.randn(digits.shape, generator=seeded())
    assert (sharpness(blurred) < sharpness(digits)).all() and (sharpness(noisy) > sharpness(digits)).all()


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian(0.3)], ids=["bernoulli", "gaussian"])
def test_best_picture_of_two_shifted_strokes_is_both_at_half_strength(likelihood):
    """The slope of the mean log-likelihood vanishes there, and any other answer is worse."""
    left = torch.full((1, 1, 4, 4), -1.0, dtype=torch.float64)
    left[..., 1] = 1
    both = torch.cat([left, left.roll(1, 3)])
    answer = best_pictures(both, torch.zeros(2, dtype=torch.int64))
    assert answer[0].unique().tolist() == [-1.0, 0.0] and torch.equal(answer[0], answer[1])
    # A logit of 0 says grey; black has none that is finite, so leave those pixels out.
    pixels = both[..., 1:3]
    outputs = answer[..., 1:3].clone().requires_grad_()  # a logit of 0 and a mean of 0 are the same grey
    score = likelihood.log_prob(outputs, pixels).mean()
    (slope,) = torch.autograd.grad(score, outputs)
    assert slope.sum(0).abs().max() < 1e-12
    for sharp in (left, left.roll(1, 3)):
        one = 3 * sharp[..., 1:3].expand(2, 1, 4, 2)
        assert likelihood.log_prob(one, pixels).mean() < score
    if isinstance(likelihood, Bernoulli):
        assert score.item() == pytest.approx(-8 * math.log(2), rel=1e-12)


def test_finer_codes_leave_less_open_and_what_they_leave_adds_up():
    """The law of total variance: the best pictures' squared error + their variance = the data's."""
    digits = nn.functional.avg_pool2d(mnist("test").images[:400].double(), 4)
    total = (digits - digits.mean(0)).square().sum()
    left = []
    for bits in (0, 2, 5):
        answers = best_pictures(digits, sign_code(digits, bits))
        error, kept = (digits - answers).square().sum(), (answers - digits.mean(0)).square().sum()
        assert (error + kept).item() == pytest.approx(total.item(), rel=1e-10)
        left.append(error.item())
    assert left[0] == pytest.approx(total.item(), rel=1e-10) and left[0] > left[1] > left[2]


def test_sign_code_on_axes():
    """Variances 9, 4, 1 along the coordinates: the code is the coordinates' signs."""
    x = noise(4000, 3) * torch.tensor([3.0, 2.0, 1.0])
    code = sign_code(x, 2)
    side = (x - x.mean(0) > 0).long()
    # The sample's axes are off by a few degrees, which moves points near a boundary only.
    assert (code == 2 * side[:, 0] + side[:, 1]).double().mean().item() > 0.95
    assert sign_code(x, 0).unique().tolist() == [0]
    assert torch.equal(sign_code(x, 3) // 2, code)


def test_blur_functions_refuse():
    x = torch.zeros(4, 3)
    with pytest.raises(ValueError, match=r"bits must be in 0\.\.3, got 4"):
        sign_code(x, 4)
    with pytest.raises(ValueError, match="codes must be 4 integers"):
        best_pictures(x, torch.zeros(4))
    with pytest.raises(ValueError, match="not be negative, got -1"):
        best_pictures(x, torch.tensor([0, 0, -1, 2]))
