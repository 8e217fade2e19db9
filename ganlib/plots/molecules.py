"""Molecules as chemists draw them, as tensors, and on the way through a training run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.colors import BoundaryNorm, ListedColormap

from ganlib.data.molecules import BONDS, quiet, rdkit
from ganlib.plots import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rdkit.Chem import Mol
    from torch import Tensor

    from ganlib.training import Trainer

__all__ = [
    "against_lambda",
    "beside_tensors",
    "edge_matrix",
    "gallery",
    "live",
    "picture",
    "reward_against_unique",
    "sketch",
]

ATOMS = ("*", "C", "N", "O", "F")  # a pad as RDKit would write it
# Each label keeps its colour wherever it is drawn: as an atom's letter, in a node tensor, in an edge matrix.
ATOM_COLOURS = ("#FFFFFF", "#000000", PALETTE[0], PALETTE[1], PALETTE[2])
BOND_COLOURS = ("#FFFFFF", PALETTE[5], PALETTE[4], PALETTE[3])


def sketch(nodes: Tensor, edges: Tensor) -> Mol:
    """The graph as RDKit's molecule without any check: for drawing what is *not* a molecule, too.

    Pads are left out, unless a bond ends there: then they stand as ``*``.

    Args:
        nodes: labels ``(V,)``, 0 for a pad.
        edges: labels ``(V, V)``, 0 for none; the upper triangle is read.

    Raises:
        ValueError: for other shapes.
    """
    if nodes.ndim != 1 or edges.shape != (len(nodes), len(nodes)):
        raise ValueError(
            f"need nodes (V,) and edges (V, V), got {tuple(nodes.shape)} and {tuple(edges.shape)}"
        )
    chem = rdkit().Chem
    kinds = (None, chem.BondType.SINGLE, chem.BondType.DOUBLE, chem.BondType.TRIPLE)
    labels, bonds = nodes.tolist(), edges.triu(1).nonzero().tolist()
    bonded = {end for bond in bonds for end in bond}
    built, place = chem.RWMol(), {}
    for v, label in enumerate(labels):
        if label or v in bonded:
            place[v] = built.AddAtom(chem.Atom(ATOMS[label]))
            built.GetAtomWithIdx(place[v]).SetIntProp("vertex", v)
    for i, j in bonds:
        built.AddBond(place[i], place[j], kinds[int(edges[i, j])])
    built.UpdatePropertyCache(strict=False)
    chem.FastFindRings(built)
    return built.GetMol()


def picture(
    molecule: Mol | str | None, *, size: tuple[int, int] = (220, 160), vertices: bool = False
) -> np.ndarray:
    """Draw one molecule, ``(height, width, 3)`` in 0..255; a crossed-out frame for None.

    Args:
        molecule: RDKit's molecule or a SMILES; None where the graph is no molecule.
        size: width and height in pixels.
        vertices: number the atoms by their place in the tensors.

    Raises:
        ValueError: for a SMILES that RDKit cannot read.
    """
    width, height = size
    if molecule is None:
        return _crossed(width, height)
    chem = rdkit().Chem
    from rdkit.Chem.Draw import rdMolDraw2D

    if isinstance(molecule, str):
        with quiet():
            read = chem.MolFromSmiles(molecule)
        if read is None:
            raise ValueError(f"molecule must be a SMILES that RDKit reads, got {molecule!r}")
        molecule = read
    drawn = chem.Mol(molecule)
    if vertices:
        for atom in drawn.GetAtoms():
            number = atom.GetIntProp("vertex") if atom.HasProp("vertex") else atom.GetIdx()
            atom.SetProp("atomNote", str(number))
    if _sane(drawn):
        chem.Kekulize(drawn, clearAromaticFlags=True)
    canvas = rdMolDraw2D.MolDraw2DCairo(width, height)
    options = canvas.drawOptions()
    options.updateAtomPalette({n: _rgb(c) for n, c in zip((0, 6, 7, 8, 9), ATOM_COLOURS, strict=True) if n})
    options.padding = 0.12
    options.fixedBondLength = 0.22 * width
    options.annotationFontScale = 0.7
    # RDKit's own preparation checks valences, which an invalid molecule does not survive.
    options.prepareMolsBeforeDrawing = False
    canvas.DrawMolecule(drawn)
    canvas.FinishDrawing()
    return _pixels(canvas.GetDrawingText())


def gallery(
    found: Sequence[Mol | str | None],
    captions: Sequence[str] | None = None,
    *,
    columns: int = 6,
    title: str = "",
    frames: Sequence[str | None] | None = None,
    width: float = 1.8,
) -> Figure:
    """Draw molecules in rows, a caption below each.

    Args:
        found: molecules, SMILES, or None for what is no molecule.
        captions: one per molecule.
        columns: molecules in a row.
        title: of the figure.
        frames: a colour for each molecule's frame, None for no frame.
        width: of one molecule in inches.

    Raises:
        ValueError: if there is nothing to draw, or captions or frames are of another number.
    """
    if not found:
        raise ValueError("found must hold at least one molecule (or None), got none")
    for name, given in (("captions", captions), ("frames", frames)):
        if given is not None and len(given) != len(found):
            raise ValueError(f"{name} must be one per molecule, {len(found)}, got {len(given)}")
    columns = min(columns, len(found))
    rows = -(-len(found) // columns)
    lines = max((c.count("\n") + 1 for c in captions), default=0) if captions else 0
    height = 0.73 * width + 0.16 * lines
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(width * columns, height * rows + 0.35),
        squeeze=False,
        layout="constrained",
    )
    for index, ax in enumerate(axes.flat):
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
        if index >= len(found):
            continue
        ax.imshow(picture(found[index]), interpolation="antialiased")
        if captions:
            ax.set_xlabel(captions[index], fontsize=7.5, labelpad=2)
        if frames and frames[index]:
            ax.spines[:].set(visible=True, color=frames[index], linewidth=1.8)
    figure.suptitle(title)
    return figure


def edge_matrix(
    edges: Tensor, nodes: Tensor | None = None, *, title: str = "", ax: Axes | None = None
) -> Axes:
    """Draw edge labels ``(V, V)`` as coloured squares; the atoms' letters, if given, along both sides.

    Raises:
        ValueError: if ``edges`` is not square.
    """
    if edges.ndim != 2 or edges.shape[0] != edges.shape[1]:
        raise ValueError(f"edges must be (V, V), got {tuple(edges.shape)}")
    if ax is None:
        ax = plt.subplots(figsize=(3, 3), layout="constrained")[1]
    _tiles(ax, edges.cpu().numpy(), BOND_COLOURS)
    size = len(edges)
    names = [str(v) for v in range(size)] if nodes is None else [ATOMS[label] for label in nodes.tolist()]
    ax.set_xticks(range(size), names)
    ax.set_yticks(range(size), names)
    if nodes is not None:
        for texts in (ax.get_xticklabels(), ax.get_yticklabels()):
            for text, label in zip(texts, nodes.tolist(), strict=True):
                text.set_color(ATOM_COLOURS[label] if label else "0.6")
    ax.set_title(title)
    return ax


def beside_tensors(nodes: Tensor, edges: Tensor, *, title: str = "") -> Figure:
    """A molecule beside its node tensor (V x 5) and the four slices of its edge tensor (V x V x 4).

    Args:
        nodes: labels ``(V,)``.
        edges: labels ``(V, V)``.

    Raises:
        ValueError: for other shapes.
    """
    drawn = sketch(nodes, edges)
    figure, axes = plt.subplot_mosaic(
        [["molecule", "molecule", "nodes", *BONDS]],
        figsize=(13, 2.9),
        width_ratios=[1, 1, 1.0, 1.3, 1.3, 1.3, 1.3],
        layout="constrained",
    )
    axes["molecule"].imshow(picture(drawn, size=(440, 400), vertices=True))
    axes["molecule"].set_axis_off()
    axes["molecule"].set_title("the molecule, vertices numbered")
    size, names = len(nodes), [ATOMS[label] for label in nodes.tolist()]
    one_hot = np.eye(len(ATOMS), dtype=int)[nodes.cpu().numpy()]
    _tiles(axes["nodes"], one_hot * np.arange(1, len(ATOMS) + 1), ("#FFFFFF", "0.75", *ATOM_COLOURS[1:]))
    axes["nodes"].set_xticks(range(len(ATOMS)), ATOMS)
    axes["nodes"].set_yticks(range(size), [f"{v} {name}" for v, name in enumerate(names)])
    axes["nodes"].set(title="nodes", xlabel="kind of atom", ylabel="vertex")
    for label, bond in enumerate(BONDS):
        slice_ = (edges == label).int().cpu().numpy()
        _tiles(axes[bond], slice_, ("#FFFFFF", BOND_COLOURS[label] if label else "0.85"))
        axes[bond].set_xticks(range(size))
        axes[bond].set_yticks(range(size))
        axes[bond].set(title=f"edges: {bond}", xlabel="vertex")
    figure.suptitle(title)
    return figure


def against_lambda(
    rows: Sequence[Mapping[str, Any]],
    *,
    shares: Sequence[str] = ("valid", "unique", "novel"),
    scores: Sequence[str] = ("reward", "qed", "solubility", "synthesizability"),
    data: Mapping[str, float] | None = None,
) -> Sequence[Axes]:
    """What a study of the trade-off found: shares on the left, mean scores on the right, both against lambda.

    A line joins the means over seeds, every run is a small mark, dotted lines are the data's own scores.

    Args:
        rows: what ``studies.load`` returns: dictionaries with ``labels`` (``lambda``, a dash for the decimal
            point) and ``figures``.
        shares: figures in [0, 1], drawn in per cent.
        scores: figures in [0, 1].
        data: score's name -> its mean over the data.

    Raises:
        ValueError: if there are no rows.
    """
    if not rows:
        raise ValueError("rows must not be empty: run the study first")
    axes = plt.subplots(1, 2, figsize=(10.5, 3.4), layout="constrained")[1]
    for ax, names, scale in ((axes[0], shares, 100), (axes[1], scores, 1)):
        for name, colour, marker in zip(names, cycle(PALETTE), cycle("os^D"), strict=False):
            found: dict[float, list[float]] = {}
            for row in rows:
                trade_off = float(str(row["labels"]["lambda"]).replace("-", "."))
                found.setdefault(trade_off, []).append(scale * row["figures"][name])
            x = sorted(found)
            ax.plot(x, [float(np.mean(found[k])) for k in x], color=colour, marker=marker, label=name)
            single = [(k, value) for k in x for value in found[k]]
            ax.plot(*zip(*single, strict=True), marker, color=colour, markersize=3, alpha=0.5)
            if data and name in data:
                ax.axhline(scale * data[name], color=colour, linestyle=":", linewidth=1)
        ax.set(xlabel="λ (0: rewards alone, 1: the GAN alone)", xticks=sorted(found))
        ax.legend(frameon=False, fontsize="small")
    axes[0].set(title="what the molecules are", ylabel="per cent", ylim=(-2, 102))
    axes[1].set(title="what they score (dotted: QM9)", ylabel="mean score", ylim=(0, None))
    return axes


def reward_against_unique(
    curves: Mapping[str, Sequence[Mapping[str, float]]],
    *,
    reward: str = "reward",
    unique: str = "unique",
    threshold: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The path of each run in the plane of mean reward and uniqueness; time runs towards the dot.

    Args:
        curves: run's name -> rows with the columns ``reward`` and ``unique``, shares in [0, 1].
        threshold: uniqueness at which one would stop, drawn as a line.

    Raises:
        ValueError: if there are no runs.
    """
    if not curves:
        raise ValueError("curves must hold at least one run, got none")
    if ax is None:
        ax = plt.subplots(figsize=(5.4, 3.8), layout="constrained")[1]
    for (name, rows), colour in zip(curves.items(), cycle(PALETTE), strict=False):
        x, y = ([100 * row[unique] for row in rows], [row[reward] for row in rows])
        ax.plot(x, y, "-", color=colour, alpha=0.8, linewidth=1.2, label=name)
        ax.plot(x[-1], y[-1], "o", color=colour)
    if threshold is not None:
        ax.axvline(100 * threshold, color="0.5", linestyle=":")
    ax.set(title="What a run pays for reward", xlabel="unique, in % of the valid", ylabel="mean reward")
    ax.legend(frameon=False, fontsize="small")
    return ax


def live(
    steps: int,
    every: int,
    decode: Callable[[Tensor], Sequence[str | None]],
    measure: Callable[[Trainer], Mapping[str, float]],
    *,
    n: int = 12,
    rows: list[dict[str, Any]] | None = None,
) -> Callable[[Trainer], None]:
    """A trainer callback that measures now and then and redraws molecules, curves and a progress bar.

    The latents stay the same, so that one watches the same corners of latent space become molecules.

    Args:
        steps: of the whole run, for the bar.
        every: steps between two measurements.
        decode: packed graphs -> SMILES, None for an invalid one.
        measure: trainer -> named shares in [0, 1], drawn against the step.
        n: molecules shown.
        rows: list that receives ``{"step": ..., **measured}``.
    """
    from IPython.display import display

    rows = [] if rows is None else rows
    handle = None

    def callback(trainer: Trainer) -> None:
        nonlocal handle
        if trainer.step % every and not trainer.finished:
            return
        if not rows or rows[-1]["step"] != trainer.step:
            rows.append({"step": trainer.step, **measure(trainer)})
        figure = _live_figure(rows, decode(trainer.sample(n)), steps, trainer.history[-1]["seconds"])
        if handle is None:
            handle = display(figure, display_id=True)
        else:
            handle.update(figure)
        plt.close(figure)

    return callback


def _live_figure(
    rows: Sequence[Mapping[str, Any]], found: Sequence[str | None], steps: int, seconds: float
) -> Figure:
    step = rows[-1]["step"]
    figure, axes = plt.subplot_mosaic(
        [["bar", "bar"], ["molecules", "curves"]],
        figsize=(11, 3.4),
        height_ratios=[1, 14],
        width_ratios=[1.25, 1],
        layout="constrained",
    )
    bar = axes["bar"]
    bar.barh(0, steps, color="0.92")
    bar.barh(0, step, color=PALETTE[2])
    bar.set_xlim(0, steps)
    bar.set_axis_off()
    bar.set_title(f"step {step:,} of {steps:,}, {seconds:.0f} s of training", fontsize=9, loc="left")
    columns = 4
    pictures = [picture(smiles) for smiles in found]
    blank = np.full_like(pictures[0], 255)
    pictures += [blank] * (-len(pictures) % columns)
    lines = [np.concatenate(pictures[i : i + columns], 1) for i in range(0, len(pictures), columns)]
    axes["molecules"].imshow(np.concatenate(lines))
    axes["molecules"].set_axis_off()
    axes["molecules"].set_title("the same latents each time")
    right = axes["curves"]
    names = [name for name in rows[-1] if name != "step"]
    for name, colour in zip(names, cycle(PALETTE), strict=False):
        right.plot(
            [r["step"] for r in rows], [100 * r[name] for r in rows], "o-", ms=3, color=colour, label=name
        )
    right.set(title="measured on samples", xlabel="step", ylabel="per cent", xlim=(0, steps), ylim=(0, 102))
    right.legend(frameon=False, fontsize="small")
    return figure


def _tiles(ax: Axes, labels: np.ndarray, colours: Sequence[str]) -> None:
    norm = BoundaryNorm(np.arange(len(colours) + 1) - 0.5, len(colours))
    ax.imshow(labels, cmap=ListedColormap(colours), norm=norm)
    rows, columns = labels.shape
    ax.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="0.8", linewidth=0.5)
    ax.tick_params(which="both", length=0, labelsize=7)


def _rgb(colour: str) -> tuple[float, float, float]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))  # type: ignore[return-value]


def _sane(molecule: Mol) -> bool:
    chem = rdkit().Chem
    with quiet():
        return chem.SanitizeMol(chem.Mol(molecule), catchErrors=True) == chem.SANITIZE_NONE


def _pixels(png: bytes) -> np.ndarray:
    from io import BytesIO

    return (plt.imread(BytesIO(png), format="png")[..., :3] * 255).round().astype(np.uint8)


def _crossed(width: int, height: int) -> np.ndarray:
    """A grey saltire on white: the sign for "no molecule"."""
    y, x = np.mgrid[0:height, 0:width]
    half = 0.22 * height
    u, v = x - width / 2, y - height / 2
    on = (np.abs(np.abs(u) - np.abs(v)) < 2.5) & (np.maximum(np.abs(u), np.abs(v)) < half)
    image = np.full((height, width, 3), 255, np.uint8)
    image[on] = 170
    return image
