"""Random rows: right distributions, explicit sources, and one draw however many processes share it."""

import pytest
import torch
from scipy.stats import kstest

import ganlib.random
from ganlib.random import normal, place, uniform

DRAWS = [normal, uniform]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_one_process():
    assert place() == (0, 1)


@pytest.mark.parametrize(("draw", "distribution"), [(normal, "norm"), (uniform, "uniform")])
def test_distribution(draw, distribution):
    rows = draw(100, 20, rng=rng())
    assert rows.shape == (100, 20) and rows.dtype == torch.float32
    # A Kolmogorov-Smirnov test that a right sampler fails once in a thousand seeds; the seed is fixed.
    assert kstest(rows.flatten().numpy(), distribution).pvalue > 1e-3


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("shape", [(), (3,), (2, 4, 4)])
def test_shapes(draw, shape):
    assert draw(5, *shape, rng=rng()).shape == (5, *shape)


@pytest.mark.parametrize("draw", DRAWS)
def test_an_explicit_source_is_used_and_the_global_one_left_alone(draw):
    before = torch.get_rng_state()
    assert torch.equal(draw(4, 3, rng=rng(1)), draw(4, 3, rng=rng(1)))
    assert not torch.equal(draw(4, 3, rng=rng(1)), draw(4, 3, rng=rng(2)))
    source = rng(1)
    assert not torch.equal(draw(4, 3, rng=source), draw(4, 3, rng=source))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("draw", DRAWS)
def test_without_a_source_the_global_state_is_used(draw):
    with torch.random.fork_rng():
        torch.manual_seed(7)
        first = draw(4, 3)
        torch.manual_seed(7)
        assert torch.equal(draw(4, 3), first)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_one_draw_by_rows(draw, world, monkeypatch):
    """W processes with n rows each see, together, what one process with W n rows sees, and stay in step."""
    whole_source = rng()
    whole, after = draw(5 * world, 7, rng=whole_source), draw(5 * world, 7, rng=whole_source)
    for rank in range(world):
        monkeypatch.setattr(ganlib.random, "place", lambda rank=rank: (rank, world))
        source = rng()
        mine = slice(5 * rank, 5 * (rank + 1))
        assert torch.equal(draw(5, 7, rng=source), whole[mine])
        assert torch.equal(draw(5, 7, rng=source), after[mine])


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("n", [0, -1])
def test_no_rows_are_refused(draw, n):
    with pytest.raises(ValueError, match=f"n must be at least 1, got {n}"):
        draw(n, 3)
