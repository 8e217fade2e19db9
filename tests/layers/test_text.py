"""The text encoder: against its formula in numpy, and what padding must not do."""

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from ganlib.layers.text import TextEncoder


@pytest.fixture
def encoder() -> TextEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TextEncoder(9, 5, width=6)


TOKENS = torch.tensor([[3, 1, 4, 1, 5], [2, 7, 0, 0, 0], [8, 0, 0, 0, 0]])


def test_formula(encoder):
    """Word by word in float64 numpy; padding is left out of it altogether."""
    encoder.double()
    weights = {k: v.detach().numpy() for k, v in encoder.state_dict().items()}
    found = encoder(TOKENS).detach().numpy()
    for row, out in zip(TOKENS.tolist(), found, strict=True):
        words = [word for word in row if word]
        e = [np.zeros(6), *(weights["embed.weight"][word] for word in words), np.zeros(6)]
        answers = []
        for i in range(1, len(e) - 1):
            total = weights["convolve.bias"].copy()
            for k in range(3):
                total += weights["convolve.weight"][:, :, k] @ e[i + k - 1]
            answers.append(np.maximum(total, 0))
        raw = weights["project.weight"] @ np.max(answers, 0) + weights["project.bias"]
        expected = (raw - raw.mean()) / np.sqrt(raw.var() + 1e-5)
        assert out == pytest.approx(expected, abs=1e-12)  # a dozen roundings of 1e-16


def test_padding_changes_nothing(encoder):
    """Not by a bit, and neither does it learn: longer rows, the same vectors and the same gradients."""
    encoder.convolve.bias.data.fill_(1.0)  # a padded place would answer 1 and win over weak words
    # Neighbours in a batch may be multiplied in another order, so each length is its own batch.
    short, long = encoder(TOKENS), encoder(pad(TOKENS, (0, 4)))
    assert torch.allclose(short, long, rtol=0, atol=1e-6)  # sums of 18 float32 terms in another order
    slopes = []
    for tokens in (TOKENS, pad(TOKENS, (0, 4))):
        encoder.zero_grad()
        encoder(tokens).square().sum().backward()
        slopes.append({n: p.grad.clone() for n, p in encoder.named_parameters()})
    for name, slope in slopes[0].items():
        assert torch.allclose(slope, slopes[1][name], rtol=1e-5, atol=1e-6), name
    assert not slopes[1]["embed.weight"][0].any(), "the padding's embedding has no gradient"
    assert not encoder.embed.weight[0].any(), "and is zero"


def test_gradients_reach_the_words_that_were_said(encoder):
    encoder.convolve.bias.data.fill_(5.0)  # every word answers
    encoder(TOKENS[:2])[:, :2].sum().backward()  # the sum of all is 0 after the layer norm
    learnt = encoder.embed.weight.grad.abs().sum(1) > 0
    assert set(learnt.nonzero()[:, 0].tolist()) <= {1, 2, 3, 4, 5, 7}
    assert learnt.sum() >= 2
    assert all(p.grad.abs().sum() > 0 for p in encoder.parameters())


def test_neighbours_count():
    """ "Medium size, thin strokes" is not "medium strokes, thin size": the same words in another order."""
    torch.manual_seed(1)
    encoder = TextEncoder(6, 4, width=32)
    found = encoder(torch.tensor([[1, 2, 3, 4], [1, 4, 3, 2]]))
    assert (found[0] - found[1]).abs().max() > 1e-2


def test_a_caption_without_words(encoder):
    found = encoder(torch.zeros(1, 4, dtype=torch.int64))
    assert torch.allclose(found[0], encoder.normalize(encoder.project.bias))


def test_half_precision(encoder):
    with torch.autocast("cpu", torch.bfloat16):
        rounded = encoder(TOKENS)
    exact = encoder(TOKENS)
    # bfloat16 has 8 bits: 0.4 percent per rounding, two products in a row.
    assert torch.allclose(rounded.float(), exact, atol=0.02 * exact.abs().max().item())


@pytest.mark.parametrize("tokens", [torch.zeros(3), torch.zeros(3, 2), torch.zeros(2, 3, 4).long()])
def test_refuses_other_shapes_and_types(encoder, tokens):
    with pytest.raises(ValueError, match=r"tokens must be int64 \(N, L\)"):
        encoder(tokens)
