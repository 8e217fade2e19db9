"""What the figures of molecules draw, read back."""

import matplotlib
import numpy as np
import pytest
import torch

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from ganlib.plots import PALETTE
from ganlib.plots import molecules as draw

Chem = pytest.importorskip("rdkit.Chem")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def graph(letters: str, *bonds: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    edges = torch.zeros(len(letters), len(letters), dtype=torch.uint8)
    for i, j, kind in bonds:
        edges[i, j] = edges[j, i] = kind
    return torch.tensor(["*CNOF".index(a) for a in letters], dtype=torch.uint8), edges


def colours(image: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(pixel) for pixel in image.reshape(-1, 3).tolist()}


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


# sketch


def test_a_sketch_is_the_molecule():
    """All atoms and bonds, out of order and around a pad, against RDKit's reading of a SMILES."""
    bonds = [(1, 2, 1), (2, 3, 2), (3, 5, 1), (5, 6, 1), (6, 7, 3)]
    drawn = draw.sketch(*graph("*FCN*OCN", *bonds))
    Chem.SanitizeMol(drawn)
    assert Chem.MolToSmiles(drawn) == Chem.CanonSmiles("FC=NOC#N")


def test_a_sketch_shows_what_is_no_molecule():
    five = draw.sketch(*graph("CCCCCC", *[(0, k, 1) for k in range(1, 6)]))
    assert five.GetAtomWithIdx(0).GetDegree() == 5
    pad = draw.sketch(*graph("C**C", (0, 1, 1), (1, 3, 1)))
    assert [a.GetSymbol() for a in pad.GetAtoms()] == ["C", "*", "C"], "only the pad with a bond is drawn"
    assert [a.GetIntProp("vertex") for a in pad.GetAtoms()] == [0, 1, 3]
    loose = draw.sketch(*graph("CO"))
    assert Chem.MolToSmiles(loose) == "C.O"


def test_sketch_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"\(2,\) and \(3, 3\)"):
        draw.sketch(graph("CC")[0], torch.zeros(3, 3))


# picture


def test_a_picture_has_its_size_and_the_colours_of_its_atoms():
    image = draw.picture("CCO", size=(200, 120))
    assert image.shape == (120, 200, 3) and image.dtype == np.uint8
    oxygen, nitrogen = rgb(PALETTE[1]), rgb(PALETTE[0])
    assert oxygen in colours(image) and nitrogen not in colours(image)
    assert nitrogen in colours(draw.picture("CCN")) and rgb(PALETTE[2]) in colours(draw.picture("CF"))


def test_no_molecule_is_a_cross_without_colour():
    image = draw.picture(None, size=(80, 60))
    assert image.shape == (60, 80, 3)
    assert colours(image) == {(255, 255, 255), (170, 170, 170)}


def test_numbers_are_drawn_when_asked_for():
    nodes, edges = graph("CC", (0, 1, 1))
    plain = draw.picture(draw.sketch(nodes, edges))
    numbered = draw.picture(draw.sketch(nodes, edges), vertices=True)
    assert (numbered < 128).sum() > (plain < 128).sum()


def test_drawing_prints_nothing_and_leaves_the_molecule_alone(capfd):
    benzene = Chem.MolFromSmiles("c1ccccc1")
    draw.picture(benzene, vertices=True)
    assert all(bond.GetIsAromatic() for bond in benzene.GetBonds())
    assert not any(atom.HasProp("atomNote") for atom in benzene.GetAtoms())
    draw.picture(draw.sketch(*graph("CCCCCC", *[(0, k, 1) for k in range(1, 6)])))
    with pytest.raises(ValueError, match="got 'C1CC'"):
        draw.picture("C1CC")
    assert capfd.readouterr().err == ""


# figures


def test_gallery_has_a_place_caption_and_frame_for_each():
    figure = draw.gallery(
        ["C", None, "CO"], ["a", "b", "c"], columns=2, title="t", frames=["red", None, "red"]
    )
    drawn = [ax for ax in figure.axes if ax.images]
    assert [ax.get_xlabel() for ax in drawn] == ["a", "b", "c"]
    assert [ax.spines["top"].get_visible() for ax in drawn] == [True, False, True]
    assert len(figure.axes) == 4 and figure.get_suptitle() == "t"
    assert colours(np.asarray(drawn[1].images[0].get_array())) == {(255, 255, 255), (170, 170, 170)}


def test_gallery_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="at least one"):
        draw.gallery([])
    with pytest.raises(ValueError, match="captions must be one per molecule, 2, got 1"):
        draw.gallery(["C", "C"], ["one"])
    with pytest.raises(ValueError, match="frames must be one per molecule"):
        draw.gallery(["C"], frames=[])


def test_tensors_are_one_hot():
    nodes, edges = graph("CNO*", (0, 1, 2), (1, 2, 1))
    figure = draw.beside_tensors(nodes, edges)
    panels = {ax.get_title(): np.asarray(ax.images[0].get_array()) for ax in figure.axes}
    shown = panels["nodes"] > 0
    assert shown.shape == (4, 5) and shown.argmax(1).tolist() == [1, 2, 3, 0] and (shown.sum(1) == 1).all()
    slices = [panels[f"edges: {bond}"] > 0 for bond in ("none", "single", "double", "triple")]
    assert (np.sum(slices, 0) == 1).all(), "each pair has exactly one bond type"
    assert np.argwhere(slices[2]).tolist() == [[0, 1], [1, 0]]
    assert np.argwhere(slices[1]).tolist() == [[1, 2], [2, 1]]


def test_edge_matrix_draws_the_labels():
    nodes, edges = graph("CNO*", (0, 1, 2), (1, 2, 1))
    ax = draw.edge_matrix(edges, nodes, title="t")
    assert np.asarray(ax.images[0].get_array()).tolist() == edges.tolist()
    assert [text.get_text() for text in ax.get_xticklabels()] == list("CNO*")
    assert ax.get_yticklabels()[2].get_color() == PALETTE[1] and ax.get_title() == "t"
    with pytest.raises(ValueError, match=r"\(V, V\), got \(3, 2\)"):
        draw.edge_matrix(torch.zeros(3, 2))


def test_lines_against_lambda_join_the_means_over_seeds():
    figures = {"valid": 0.5, "unique": 0.2, "novel": 0.9, "qed": 0.4, "solubility": 0.3}
    rows = [
        {"labels": {"lambda": trade_off}, "figures": figures | {"reward": reward, "synthesizability": 0.1}}
        for trade_off, reward in (("1", 0.1), ("0-25", 0.2), ("0-25", 0.4))
    ]
    left, right = draw.against_lambda(rows, data={"reward": 0.04})
    lines = {line.get_label(): line for line in (*left.lines, *right.lines)}
    assert lines["reward"].get_xdata().tolist() == [0.25, 1.0]
    assert lines["reward"].get_ydata().tolist() == pytest.approx([0.3, 0.1])
    assert lines["valid"].get_ydata().tolist() == [50, 50], "shares are in per cent"
    marks = [line for line in right.lines if line.get_label().startswith("_")]
    assert sorted(marks[0].get_ydata()) == [0.1, 0.2, 0.4], "every run is marked"
    assert [line.get_ydata()[0] for line in marks if line.get_linestyle() == ":"] == [0.04]
    assert left.get_title() and right.get_ylabel() and "λ" in left.get_xlabel()
    with pytest.raises(ValueError, match="run the study"):
        draw.against_lambda([])


def test_a_path_ends_at_its_dot():
    rows = [{"unique": 0.9, "reward": 0.1}, {"unique": 0.5, "reward": 0.3}]
    ax = draw.reward_against_unique({"λ = 0": rows}, threshold=0.02)
    path, dot, stop = ax.lines
    assert path.get_xdata().tolist() == [90, 50] and path.get_ydata().tolist() == [0.1, 0.3]
    assert dot.get_xdata().tolist() == [50] and stop.get_xdata() == [2, 2]
    assert ax.get_legend().get_texts()[0].get_text() == "λ = 0" and ax.get_xlabel() and ax.get_ylabel()
    with pytest.raises(ValueError, match="at least one run"):
        draw.reward_against_unique({})


class FakeTrainer:
    step, finished = 0, False
    history = ({"seconds": 1.0},)

    def sample(self, n: int) -> torch.Tensor:
        return torch.zeros(n)


def test_live_measures_now_and_then_and_redraws_one_figure(monkeypatch):
    shown, displayed = [], []

    class Handle:
        def update(self, figure):
            shown.append(figure)

    def display(figure, display_id):
        displayed.append(display_id)
        shown.append(figure)
        return Handle()

    monkeypatch.setattr("IPython.display.display", display)
    rows, trainer = [], FakeTrainer()
    watch = draw.live(30, 10, lambda x: ["C"] * len(x), lambda t: {"valid": t.step / 100}, n=6, rows=rows)
    for trainer.step in (5, 10, 15, 20, 25):
        trainer.finished = trainer.step == 25  # interrupted: the last round counts, whatever its number
        watch(trainer)
    assert rows == [{"step": s, "valid": s / 100} for s in (10, 20, 25)]
    assert displayed == [True] and len(shown) == 3 and not plt.get_fignums(), "figures are closed"
    bar, _, curves = shown[-1].axes
    assert [patch.get_width() for patch in bar.patches] == [30, 25]
    assert curves.lines[0].get_ydata().tolist() == [10, 20, 25]
