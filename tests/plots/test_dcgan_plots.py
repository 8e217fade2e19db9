"""The figures of the DCGAN notebook: what they show must be what the layers do."""

import matplotlib
import pytest
import torch
from torch import nn
from torch.nn import functional as F

matplotlib.use("Agg")

from ganlib.models.dcgan import Discriminator, Generator
from ganlib.plots.dcgan import connections, layer_table, panels, reach


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    from matplotlib import pyplot as plt

    plt.close("all")


@pytest.mark.parametrize("cells", [1, 4, 5])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(4, 2, 1), (3, 2, 1), (5, 2, 2), (2, 3, 0), (3, 1, 1), (1, 1, 0)]
)
def test_connections_are_where_torch_has_a_gradient(cells, kernel, stride, padding):
    def layer(x):
        return F.conv_transpose1d(x.view(1, 1, -1), torch.ones(1, 1, kernel), stride=stride, padding=padding)[
            0, 0
        ]

    jacobian = torch.autograd.functional.jacobian(layer, torch.zeros(cells))  # outputs x inputs
    expected = {(i, o) for o, i in jacobian.nonzero().tolist()}
    found = connections(cells, kernel, stride, padding)
    assert set(found) == expected
    assert len(found) == len(expected)


def test_connections_need_an_output():
    with pytest.raises(ValueError, match="at least one cell, got -1 for cells=1, kernel=3"):
        connections(1, 3, 2, 2)


@pytest.mark.parametrize(
    ("kernel", "padding", "counts", "uneven"),
    [(4, 1, "12222221", 0), (3, 1, "1212121", 3), (5, 2, "2232322", 2)],
)
def test_reach_counts_what_torch_adds_up(kernel, padding, counts, uneven):
    from matplotlib.colors import to_rgba

    from ganlib.plots import PALETTE

    ones = F.conv_transpose1d(torch.ones(1, 1, 4), torch.ones(1, 1, kernel), stride=2, padding=padding)
    assert counts == "".join(str(int(c)) for c in ones.flatten().tolist())
    ax = reach(4, kernel, 2, padding)
    assert "".join(text.get_text() for text in ax.texts) == counts
    faces = [tuple(c.get_facecolor()[0]) for c in ax.collections]
    assert faces.count(to_rgba(PALETTE[4])) == uneven
    assert f"4 → {len(counts)}" in ax.get_title()


def rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_layer_table_of_the_generator():
    found = rows(layer_table(Generator(latent_dim=7, width=4), torch.zeros(2, 7)))
    assert found[0] == ["*input*", "", "N × 7", ""]
    # 7 latents onto 16 maps of 4 x 4 without a bias
    assert found[2] == ["ConvTranspose2d", "4 × 4, stride 1, padding 0", "N × 16 × 4 × 4", f"{7 * 16 * 16:,}"]
    assert [row[2] for row in found if row[0] == "ConvTranspose2d"] == [
        "N × 16 × 4 × 4",
        "N × 8 × 8 × 8",
        "N × 4 × 16 × 16",
        "N × 1 × 32 × 32",
    ]
    assert found[-2][0] == "Tanh"
    # the closed form of the notebook's last exercise
    w = 4
    assert found[-1][3] == f"**{16 * (4 * 7 * w + 10 * w * w + w) + 1 + 14 * w:,}**"


def test_layer_table_leaves_the_module_as_it_was():
    discriminator = Discriminator(width=4).train()
    discriminator.layers[1].eval()
    before = {k: v.clone() for k, v in discriminator.state_dict().items()}
    modes = [m.training for m in discriminator.modules()]
    table = layer_table(discriminator, torch.randn(3, 1, 32, 32))
    assert rows(table)[-2][:3] == ["Flatten", "", "N"]
    assert "slope 0.2" in table
    assert [m.training for m in discriminator.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in discriminator.state_dict().items())
    assert not any(m._forward_hooks for m in discriminator.modules())


def test_layer_table_removes_its_hooks_when_the_pass_fails():
    layer = nn.Sequential(nn.Linear(3, 2)).train()
    with pytest.raises(RuntimeError):
        layer_table(layer, torch.zeros(1, 4))
    assert not layer[0]._forward_hooks
    assert layer.training


def test_panels_show_each_group_under_its_name():
    groups = {f"group {i}": torch.full((6, 1, 8, 8), i / 2 - 1) for i in range(4)}
    figure = panels(groups, across=3, columns=3, title="all of them")
    shown = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title() for ax in shown] == list(groups)
    # two rows of three 8-pixel images with one pixel of border between and around
    assert shown[0].images[0].get_array().shape == (2 * 9 + 1, 3 * 9 + 1, 3)
    # -1, -0.5, 0 and 0.5 are 0, 1/4, 1/2 and 3/4 of white
    assert [float(ax.images[0].get_array()[4, 4, 0]) for ax in shown] == [0, 0.25, 0.5, 0.75]
    assert figure.get_suptitle() == "all of them"
    assert all(not ax.axison for ax in figure.axes[4:])


def test_panels_need_a_group():
    with pytest.raises(ValueError, match="groups must not be empty"):
        panels({})
