"""The study of unpaired translation: what its figures mean, on translations that are known."""

import pytest
import torch

from ganlib import studies
from ganlib.data import mnist, textured
from ganlib.layers import ResnetGenerator
from ganlib.models.cyclegan import CycleGAN
from ganlib.models.dualgan import DualGAN
from ganlib.models.pix2pix import UNet
from ganlib.studies import translation as study
from ganlib.training import Budget


def test_cells_are_the_papers_arms():
    cells = {cell.name: cell for cell in study.unpaired_translation(Budget.SMOKE)}
    arms = ("gan-alone", "cycle-alone", "forward-cycle", "backward-cycle", "no-pool", "identity")
    arms += ("with-u-nets", "dualgan-with-resnets")
    assert set(cells) == {f"edges-{arm}" for arm in arms} | {"textured-cyclegan"}
    assert studies.get("unpaired-translation").seeds == (0, 1, 2)
    outcome = cells["textured-cyclegan"].run(0)
    assert {"same_digit", "psnr_b", "cycle_psnr_a", "marks", "colours_kept_black", "renaming_gains"} <= set(
        outcome.figures
    )
    assert "psnr_a" not in outcome.figures, "no digit tells a colour"
    assert outcome.arrays["confusion"].sum() == 256 and "b.layers.1.weight" in outcome.arrays
    assert outcome.images.shape == (64, 3, 32, 32)


@pytest.mark.parametrize(
    ("arm", "game", "network"),
    [("with-u-nets", CycleGAN, UNet), ("dualgan-with-resnets", DualGAN, ResnetGenerator)],
)
def test_generators_are_exchanged_and_trained(arm, game, network, monkeypatch):
    trained = {}

    def fit(trainer, steps):
        before = {name: p.clone() for name, p in trainer.game.generators.named_parameters()}
        history = trainer.fit(steps)
        trained.update(game=trainer.game, before=before)
        return history

    monkeypatch.setattr(study, "fit", fit)
    cells = {cell.labels["arm"]: cell for cell in study.unpaired_translation(Budget.SMOKE)}
    outcome = cells[arm].run(0)
    assert type(trained["game"]) is game
    kinds = {type(part) for part in trained["game"].generators.modules()}
    assert kinds & {UNet, ResnetGenerator} == {network}
    for name, p in trained["game"].generators.named_parameters():
        assert not torch.equal(p, trained["before"][name]), name
    assert {"same_digit", "psnr_b", "cycle_psnr_a", "renaming_gains"} <= set(outcome.figures)
    torch.rand(1)  # whatever was drawn before
    again = cells[arm].run(0)
    assert again.figures == outcome.figures and torch.equal(again.images, outcome.images)


class Known:
    """b is the brightest channel of a, and a comes back in the style of a place that the digit names."""

    device = torch.device("cpu")

    def __init__(self, amplitude: float) -> None:
        self.amplitude = amplitude  # of the one marked pixel

    def translate(self, images, to="b"):
        if to == "b":
            digit = torch.where(images.amax(1, keepdim=True) > 0, 1.0, -1.0)
            self.colours = images.mean((2, 3), keepdim=True)
            digit[:, :, :1, :3] = self.amplitude * images.mean((2, 3))[:, None, None, :]
            return digit
        told = images[:, 0, 0, :3] / self.amplitude
        return told[:, :, None, None].expand(-1, 3, 32, 32)


def test_hidden_marks_and_what_removes_them():
    """Three pixels of a tenth carry the colours: greys in eight steps or a black ground take them away."""
    found = study.hidden(Known(0.1), Budget.SMOKE)
    assert found["colours_kept"] == 1.0
    # Negative marks are made black, -1; positive ones stay; so nothing is left to tell colours by but chance.
    assert 0.3 < found["colours_kept_black"] < 0.75 and 0.3 < found["colours_kept_levels"] < 0.8
    digits = mnist("test").images[:128]
    pair = [textured(digits, seed).mean((2, 3)) for seed in (0, study.OTHER_STYLES)]
    by_hand = 127.5 * 0.1 * ((pair[0] - pair[1]).square().sum() / (128 * 1024)).sqrt()
    # ink at the threshold may fall on its two sides in two styles, so a floor and not an equality
    assert found["marks"] >= by_hand.item() * (1 - 1e-5)


def test_disturbances():
    x = torch.tensor([-1.0, -0.2, -0.01, 0.0, 0.6, 1.0]).view(1, 1, 1, 6)
    assert torch.equal(study.on_black(x).flatten(), torch.tensor([-1.0, -1.0, -1.0, 0.0, 0.6, 1.0]))
    steps = (study.to_levels(x) + 1) * 3.5
    # float32 rounding of a division and a product
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-6)
    assert (study.to_levels(x) - x).abs().max() <= 1 / 7 + 1e-6
    grey = torch.zeros(100, 1, 10, 10)
    noisy = study.with_noise(grey)
    assert torch.equal(noisy, study.with_noise(grey))
    assert noisy.std().item() == pytest.approx(0.1, rel=4 / 20_000**0.5)  # four standard errors
    assert study.with_noise(grey + 1).max() <= 1


def test_relabelling_is_one_to_one():
    """A translation that takes each digit for the next one is orderly; one that takes all for 0 is not."""
    shifted = torch.eye(10, dtype=torch.int64).roll(1, 1) * 7
    assert study.relabelled(shifted) == 1.0
    collapsed = torch.zeros(10, 10, dtype=torch.int64)
    collapsed[:, 0] = 3
    assert study.relabelled(collapsed) == pytest.approx(0.1)


def test_colours_are_compared_with_the_next_pictures():
    colours = torch.eye(3).view(3, 3, 1, 1).expand(3, 3, 4, 4)
    assert study.colours_kept(colours, colours) == 1.0
    assert study.colours_kept(colours.roll(1, 0), colours) == 0.0
