"""PSNR, SSIM and MS-SSIM against scikit-image, torchmetrics, closed forms and finite differences."""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import peak_signal_noise_ratio as tm_psnr
from torchmetrics.functional.image import structural_similarity_index_measure as tm_ssim

from ganlib.metrics.images import SCALE_WEIGHTS, ms_ssim, psnr, ssim


def pair(n=3, channels=1, height=32, width=32, noise=0.3, dtype=torch.float64, seed=0):
    """Smooth random images in [-1, 1] and noisy copies."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, channels, 6, 6, generator=rng, dtype=torch.float64) * 2 - 1
    x = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    y = (x + noise * torch.randn(x.shape, generator=rng, dtype=torch.float64)).clamp(-1, 1)
    return x.to(dtype), y.to(dtype)


def skimage_ssim(a, b, data_range):
    """Wang's settings; scikit-image averages over the windows that lie inside, too."""
    return structural_similarity(
        a,
        b,
        data_range=data_range,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=0,
    )


# --- PSNR ---------------------------------------------------------------------------------------------------


def test_psnr_equals_skimage_and_torchmetrics():
    x, y = pair(channels=3)
    ours = psnr(x, y)
    theirs = [peak_signal_noise_ratio(b.numpy(), a.numpy(), data_range=2) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-13)  # rounding of float64
    tm = tm_psnr(x, y, data_range=2.0, dim=(1, 2, 3), reduction="none")
    np.testing.assert_allclose(ours, tm, rtol=1e-6)  # theirs takes logarithms of float32 constants


def test_psnr_of_a_known_error():
    x = torch.zeros(1, 1, 4, 4)
    # an offset of 0.2 in a range of 2 is a tenth of it: 20 dB; half of that is 6.02 dB more
    assert psnr(x + 0.2, x).item() == pytest.approx(20, rel=1e-6)
    assert psnr(x + 0.1, x).item() == pytest.approx(20 + 20 * np.log10(2), rel=1e-6)


def test_psnr_of_equal_images_is_infinite_and_pulls_nowhere():
    x, y = pair(n=2, dtype=torch.float32)
    y[0] = x[0]
    y.requires_grad_()
    value = psnr(y, x)
    (gradient,) = torch.autograd.grad(value.sum(), y)
    assert value[0] == torch.inf and value[1].isfinite()
    assert not gradient[0].any() and gradient[1].isfinite().all() and gradient[1].any()


# --- SSIM ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_equals_skimage(channels):
    x, y = pair(channels=channels, height=24, width=37)
    x01, y01 = (x + 1) / 2, (y + 1) / 2
    theirs = [skimage_ssim(a.numpy(), b.numpy(), 1.0) for a, b in zip(x01, y01, strict=True)]
    np.testing.assert_allclose(ssim(x, y), theirs, rtol=1e-11)  # float64, sums in another order
    np.testing.assert_allclose(ssim(x, y), ssim(x01, y01, data_range=(0, 1)), rtol=1e-12)
    np.testing.assert_allclose(ssim(x01 * 255, y01 * 255, (0, 255)), theirs, rtol=1e-11)
    # what a library that is not told where black lies makes of the same images
    naive = [skimage_ssim(a.numpy(), b.numpy(), 2.0) for a, b in zip(x, y, strict=True)]
    assert np.abs(ssim(x, y).numpy() - naive).max() > 0.05


def test_ssim_equals_torchmetrics_inside():
    x, y = ((side + 1) / 2 for side in pair(channels=3))
    _, full = tm_ssim(x, y, data_range=1.0, return_full_image=True, reduction="none")
    # their mean includes windows that reach over the border, into a mirror image; ours does not
    inside = full[:, :, 5:-5, 5:-5].mean((1, 2, 3))
    np.testing.assert_allclose(ssim(x, y, (0, 1)), inside, rtol=1e-11)  # float64, another order


def test_ssim_of_itself_of_a_shift_in_brightness_and_of_a_negative():
    x, _ = pair()
    torch.testing.assert_close(ssim(x, x), torch.ones(3, dtype=torch.float64), rtol=1e-14, atol=0)
    low, high = (torch.full((1, 1, 16, 16), v, dtype=torch.float64) for v in (0.2, 0.6))
    # constant images: no variance, and the luminance factor alone is left
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert ssim(low, high, (0, 1)).item() == pytest.approx(expected, rel=1e-12)
    assert (ssim(x, -x) < 0).all()


def test_ssim_gradient_by_finite_differences():
    x, y = pair(n=2, height=12, width=13)
    assert torch.autograd.gradcheck(lambda a: ssim(a, y), x.requires_grad_())
    (gradient,) = torch.autograd.grad(ssim(x, x.detach()).sum(), x)
    assert gradient.abs().max() < 1e-13  # the maximum


# --- MS-SSIM ------------------------------------------------------------------------------------------------


def scales_by_torchmetrics(x, y, weights):
    """The published product, of torchmetrics' two factors at each scale."""
    product = 1.0
    for j, weight in enumerate(weights):
        _, structure = tm_ssim(x, y, data_range=1.0, reduction="none", return_contrast_sensitivity=True)
        _, full = tm_ssim(x, y, data_range=1.0, reduction="none", return_full_image=True)
        inside = full[:, :, 5:-5, 5:-5].mean((1, 2, 3))
        product = product * (inside if j == len(weights) - 1 else structure) ** weight
        x, y = (torch.nn.functional.avg_pool2d(side, 2) for side in (x, y))
    return product


def test_ms_ssim_equals_the_product_of_torchmetrics_factors():
    x, y = pair(n=1, channels=2, height=181, width=176)
    weights = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003
    assert weights == SCALE_WEIGHTS
    expected = scales_by_torchmetrics((x + 1) / 2, (y + 1) / 2, weights)
    np.testing.assert_allclose(ms_ssim(x, y), expected, rtol=1e-10)  # five scales of float64 rounding
    assert (ms_ssim(x, y) < 0.99).all()


@pytest.mark.parametrize("scales", [1, 2])
def test_fewer_scales_share_the_same_total_weight(scales):
    x, y = pair(n=2)
    kept = np.array([0.0448, 0.2856][:scales])
    weights = kept / kept.sum() * 1.0001  # what the five sum to
    expected = scales_by_torchmetrics((x + 1) / 2, (y + 1) / 2, weights)
    np.testing.assert_allclose(ms_ssim(x, y, scales=scales), expected, rtol=1e-11)


def test_ms_ssim_of_itself_and_of_a_negative():
    x, _ = pair(n=2)
    torch.testing.assert_close(ms_ssim(x, x, scales=2), torch.ones(2).double(), rtol=1e-13, atol=0)
    y = (-x).requires_grad_()
    value = ms_ssim(y, x, scales=2)
    (gradient,) = torch.autograd.grad(value.sum(), y)
    assert not value.any() and not gradient.any()  # 0 and flat; a fractional power would have made NaN


def test_ms_ssim_gradient_by_finite_differences():
    x, y = pair(n=1, height=22, width=23)
    assert torch.autograd.gradcheck(lambda a: ms_ssim(a, y, scales=2), x.requires_grad_())


def test_blur_and_noise_are_told_apart_by_scale():
    """Noise lives in the fine scales; averaging removes it, so that coarse scales forgive it."""
    x, y = pair(n=2, height=176, width=176, noise=0.2)
    fine, all_five = ms_ssim(x, y, scales=1), ms_ssim(x, y)
    assert (all_five > fine + 0.1).all()


# --- all three ----------------------------------------------------------------------------------------------

MEASURES = [psnr, ssim, lambda a, b, *rest: ms_ssim(a, b, *rest, scales=2)]
every_measure = pytest.mark.parametrize("measure", MEASURES, ids=["psnr", "ssim", "ms_ssim"])


@every_measure
def test_one_value_per_image_and_no_more(measure):
    x, y = pair(n=4)
    whole = measure(x, y)
    assert whole.shape == (4,)
    one_by_one = torch.cat([measure(a[None], b[None]) for a, b in zip(x, y, strict=True)])
    torch.testing.assert_close(whole, one_by_one, rtol=1e-13, atol=0)


@every_measure
def test_precision(measure):
    x, y = pair()
    exact = measure(x, y)
    single = measure(x.float(), y.float())
    assert single.dtype == torch.float32
    # float32 pixels in [0, 1]: variances carry 1e-7 beside a constant of 9e-4
    torch.testing.assert_close(single.double(), exact, rtol=3e-4, atol=0)
    half = measure(x.bfloat16(), y.bfloat16())
    assert half.dtype == torch.float32
    # computed in float32 on images that bf16 has rounded, and on nothing coarser
    torch.testing.assert_close(half, measure(x.bfloat16().float(), y.bfloat16().float()), rtol=0, atol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(measure(x.float(), y.float()), single)


@every_measure
def test_images_that_are_no_numbers_are_no_good_match(measure):
    x, y = pair(n=2)
    y[0, 0, 16, 16] = torch.nan
    assert measure(y, x)[0].isnan() and measure(y, x)[1].isfinite()


@every_measure
@pytest.mark.parametrize(
    ("images", "reference", "rest", "message"),
    [
        (torch.zeros(2, 1, 32, 32), torch.zeros(2, 3, 32, 32), (), "one shape, got"),
        (torch.zeros(2, 1, 32, 32), torch.zeros(1, 1, 32, 32), (), "one shape, got"),
        (torch.zeros(32, 32), torch.zeros(32, 32), (), r"\(N, C, H, W\) with pixels, got \(32, 32\)"),
        (torch.zeros(2, 1, 0, 32), torch.zeros(2, 1, 0, 32), (), "with pixels, got"),
        (torch.zeros(1, 1, 32, 32).byte(), torch.zeros(1, 1, 32, 32).byte(), (), "got torch.uint8"),
        (torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 32, 32).byte(), (), "reference must be floating"),
        (torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 32, 32), ((1, 1),), "low < high"),
    ],
)
def test_bad_arguments(measure, images, reference, rest, message):
    with pytest.raises(ValueError, match=message):
        measure(images, reference, *rest)


def test_too_small_for_the_window_or_the_scales():
    small = torch.zeros(1, 1, 10, 40)
    with pytest.raises(ValueError, match=r"at least 11 x 11, got \(10, 40\)"):
        ssim(small, small)
    digits = torch.zeros(1, 1, 32, 32)
    with pytest.raises(ValueError, match=r"at least 176 x 176 for 5 scales, got \(32, 32\): ask for fewer"):
        ms_ssim(digits, digits)
    with pytest.raises(ValueError, match="at least 44 x 44 for 3 scales"):
        ms_ssim(digits, digits, scales=3)
    for scales in (0, 6):
        with pytest.raises(ValueError, match=f"1 to 5, got {scales}"):
            ms_ssim(digits, digits, scales=scales)
