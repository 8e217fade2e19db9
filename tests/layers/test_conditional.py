"""Conditional batch norm against batch norm class by class; projection against its two inner products."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ganlib.layers import ConditionalBatchNorm, Projection, mixes_samples

RNG = torch.Generator().manual_seed(0)
LABELS = torch.tensor([2, 0, 2, 1, 0, 2])


def images(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    rng = torch.Generator().manual_seed(1)
    return 3 + 2 * torch.randn(6, 4, 3, 5, generator=rng, dtype=dtype)


def per_class(dtype: torch.dtype = torch.float64) -> ConditionalBatchNorm:
    layer = ConditionalBatchNorm.per_class(4, 3).to(dtype)
    for table in (layer.gain, layer.shift):
        nn.init.normal_(table.weight, generator=torch.Generator().manual_seed(2))
    return layer


def test_per_class_is_batch_norm_with_each_classs_own_scale_and_shift():
    """Torch's batch norm of the whole batch, once per class; 1e-12 is float64's rounding."""
    layer, x = per_class(), images()
    for training in (True, False):  # the second time with the running statistics that the first one left
        layer.train(training)
        mean, variance = layer.norm.running_mean.clone(), layer.norm.running_var.clone()
        out = layer(x, LABELS)
        for label in range(3):
            wanted = F.batch_norm(
                x,
                mean,
                variance,
                1 + layer.gain.weight[label],
                layer.shift.weight[label],
                training=training,
                momentum=0.0,
            )
            own = label == LABELS
            torch.testing.assert_close(out[own], wanted[own], atol=1e-12, rtol=0)
    # torch's momentum 0.1 from mean 0, variance 1; the variance kept is the unbiased one
    torch.testing.assert_close(layer.norm.running_mean, 0.1 * x.mean((0, 2, 3)))
    torch.testing.assert_close(layer.norm.running_var, 0.9 + 0.1 * x.transpose(0, 1).flatten(1).var(1))


def test_starts_as_plain_batch_norm():
    x = images(torch.float32)
    out = ConditionalBatchNorm.per_class(4, 3)(x, LABELS)
    torch.testing.assert_close(out, nn.BatchNorm2d(4)(x), atol=1e-6, rtol=0)


def test_from_vector_is_linear_in_it():
    layer, x = ConditionalBatchNorm.from_vector(4, 5), images(torch.float32)
    vectors = torch.randn(6, 5, generator=torch.Generator().manual_seed(3))
    normal = ((x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), correction=0, keepdim=True)).numpy()
    gain, shift = (m.weight.detach().numpy() for m in (layer.gain, layer.shift))
    wanted = (1 + vectors.numpy() @ gain.T)[:, :, None, None] * normal
    wanted += (vectors.numpy() @ shift.T)[:, :, None, None]
    # batch norm's eps of 1e-5 beside a variance of 4; outputs are below 10
    np.testing.assert_allclose(layer(x, vectors).detach().numpy(), wanted, atol=5e-5)
    assert layer.gain.bias is None and layer.shift.bias is None


def test_gradients():
    """By finite differences in x and both tables; a class that is not in the batch gets none."""
    layer, x = per_class(), images()[:3, :, :2, :2].clone().requires_grad_()
    labels = torch.tensor([2, 0, 2])

    def output(x, gain, shift):
        named = {"gain.weight": gain, "shift.weight": shift}
        return torch.func.functional_call(layer, named, (x, labels))

    layer.norm.track_running_stats = False
    assert torch.autograd.gradcheck(output, (x, layer.gain.weight, layer.shift.weight), atol=1e-6)
    layer(x, labels).square().sum().backward()
    for table in (layer.gain, layer.shift):
        assert not table.weight.grad[1].any() and table.weight.grad[[0, 2]].all()


def test_low_precision_keeps_its_dtype():
    layer = ConditionalBatchNorm.from_vector(4, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(images(torch.bfloat16), torch.zeros(6, 5)).dtype == torch.bfloat16
    assert per_class(torch.float32)(images(torch.bfloat16), LABELS).dtype == torch.bfloat16


def test_it_mixes_samples_and_counts_as_batch_norm():
    """A discriminator with it must see real and fake apart, and processes must share its statistics."""
    assert mixes_samples(per_class())
    assert not mixes_samples(Projection(3, 2))


def test_projection_is_unconditional_plus_inner_product():
    layer = Projection(5, 3).double()
    h = torch.randn(6, 5, generator=RNG, dtype=torch.float64)
    w, v = layer.unconditional.weight.detach().numpy()[0], layer.classes.weight.detach().numpy()
    wanted = h.numpy() @ w + layer.unconditional.bias.item() + np.einsum("nd,nd->n", h.numpy(), v[LABELS])
    # 1e-12: sums of five float64 numbers
    np.testing.assert_allclose(layer(h, LABELS).detach().numpy(), wanted, atol=1e-12)
    nn.init.zeros_(layer.classes.weight)
    torch.testing.assert_close(layer(h, LABELS), layer.unconditional(h)[:, 0], atol=1e-12, rtol=0)


def test_projection_tells_classes_apart_by_their_vector_alone():
    layer = Projection(5, 3)
    h = torch.randn(1, 5, generator=RNG)
    outputs = layer(h.expand(3, 5), torch.arange(3))
    differences = (layer.classes.weight - layer.classes.weight[0]) @ h[0]
    torch.testing.assert_close(outputs - outputs[0], differences, atol=1e-5, rtol=0)


def test_projection_sums_in_float32():
    """A thousand features of 1 and weights of 1/1000 under autocast: bfloat16 would give 1 to 8 bits only."""
    layer = Projection(1001, 1)
    nn.init.constant_(layer.unconditional.weight, 0.001)
    nn.init.zeros_(layer.unconditional.bias)
    nn.init.zeros_(layer.classes.weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (out,) = layer(torch.ones(1, 1001, dtype=torch.bfloat16), torch.zeros(1, dtype=torch.int64))
    assert out.dtype == torch.float32 and out.item() == pytest.approx(1.001, abs=1e-5)
