r"""Scores of molecules: valid, unique, novel, and the rewards of MolGAN.

A score of a molecule lies in [0, 1] and is 0 for a graph that is not valid, so that a product of several is a
reward. Each takes graphs, or the SMILES that :func:`~ganlib.data.molecules.to_smiles` makes of them, where
None stands for a graph that is not valid: what counts as valid is said there, and published figures differ by
it. All need RDKit, ``pip install "ganlib[chem]"``, and remember the molecules that they scored.

Sources: De Cao and Kipf, "MolGAN: An implicit generative model for small molecular graphs", 2018, section 4,
and its authors' code; the normalisations are those of Guimaraes et al., "Objective-reinforced generative
adversarial networks (ORGAN) for sequence generation models", 2017, in their code.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ganlib.data.molecules import Molecules, qm9_canonical, quiet, rdkit, to_smiles

if TYPE_CHECKING:
    from rdkit.Chem import Mol
    from rdkit.DataStructs import ExplicitBitVect

Graphs = Molecules | Sequence[str | None]
Property = Callable[[Graphs], Tensor]

# What becomes 0 and what becomes 1.
LOGP = (-2.12178879609, 6.0429063424)
SYNTHETIC_ACCESSIBILITY = (5.0, 1.5)
TANIMOTO_DISTANCE = (0.9, 0.945)


# --- shares of a set ----------------------------------------------------------------------------------------


def validity(molecules: Graphs) -> float:
    """Share of the valid among all molecules.

    Raises:
        ValueError: if there are none, or labels are not those of graphs.
    """
    smiles = _smiles(molecules)
    return sum(one is not None for one in smiles) / len(smiles)


def uniqueness(molecules: Graphs) -> float:
    """Number of different valid molecules over the number of valid ones; NaN where none is valid.

    It falls with the size of the set: say how many were drawn.
    """
    valid = _valid(molecules)
    return len(set(valid)) / len(valid) if valid else float("nan")


def novelty(molecules: Graphs, known: Container[str] | None = None) -> float:
    """Share, among the valid molecules, of those that are not known; NaN where none is valid.

    As in the paper, a molecule that was drawn twice counts twice.

    Args:
        molecules: graphs, or their SMILES.
        known: canonical SMILES, best as a set; those of all of QM9 by default.
    """
    known = _qm9_set() if known is None else known
    valid = _valid(molecules)
    return sum(one not in known for one in valid) / len(valid) if valid else float("nan")


# --- scores of each -----------------------------------------------------------------------------------------


def qed(molecules: Graphs) -> Tensor:
    """Quantitative estimate of drug-likeness, float32 ``(N,)``: RDKit's, a geometric mean of eight
    desirabilities.

    Source: Bickerton et al., "Quantifying the chemical beauty of drugs", Nature Chemistry 4, 2012.
    """
    return _each(_qed, molecules)


def solubility(molecules: Graphs) -> Tensor:
    r"""Normalised logP, float32 ``(N,)``.

    .. math:: \min(1, \max(0, (\log P + 2.12178879609) / 8.16469513849))

    log P is Crippen's estimate of the logarithm of the partition between octanol and water. The paper calls
    the score solubility, and more is better: what it rewards dissolves in fat rather than in water.

    Source: Wildman and Crippen, "Prediction of physicochemical parameters by atomic contributions", 1999.
    """
    return _each(_solubility, molecules)


def synthesizability(molecules: Graphs) -> Tensor:
    r"""Normalised synthetic accessibility, float32 ``(N,)``.

    .. math:: \min(1, \max(0, (5 - SA) / 3.5))

    SA runs from 1, easy to make, to 10: it adds up how common the molecule's fragments are among known ones,
    less penalties for rings that share atoms and for stereo centres. The score is 0 from 5 on and 1 up to
    1.5.

    Source: Ertl and Schuffenhauer, "Estimation of synthetic accessibility score of drug-like molecules based
    on molecular complexity and fragment contributions", 2009, in RDKit's implementation.
    """
    return _each(_synthesizability, molecules)


def diversity(molecules: Graphs, reference: Sequence[str] | None = None) -> Tensor:
    r"""Normalised mean distance to reference molecules, float32 ``(N,)``.

    .. math:: \min(1, \max(0, (d - 0.9) / 0.045)), \qquad d = \frac{1}{R} \sum_r 1 - T(f, f_r)

    T is Tanimoto's similarity, shared bits over bits in either, of Morgan fingerprints of radius 4 in 2,048
    bits.

    Args:
        molecules: graphs, or their SMILES.
        reference: SMILES of the reference molecules; by default the same 100 of QM9 in every call. (The
            authors' code draws 100 anew each time.)
    """
    reference = _qm9_sample() if reference is None else tuple(reference)
    return _each(lambda one: _distance(one, reference), molecules)


def rarity(molecules: Graphs) -> Tensor:
    r"""What the authors' code rewards as "unique", float32 ``(N,)``: :math:`\min(1, 3/4 + 1/n)` for a
    molecule that occurs n times among these, so 1 up to four times and never under 3/4; 0 for one that is not
    valid.
    """
    smiles = _smiles(molecules)
    times = Counter(smiles)
    return _each(lambda one: min(1.0, 0.75 + 1 / times[one]), smiles)


def reward(molecules: Graphs, properties: Sequence[Property] = (qed, solubility, synthesizability)) -> Tensor:
    """The product of scores, float32 ``(N,)`` in [0, 1]; 0 for a graph that is not valid.

    This is the reward of MolGAN's reinforcement learning. Its network learns to predict the reward of a
    graph, and the generator climbs that prediction.

    Args:
        molecules: graphs, or their SMILES.
        properties: any of :func:`qed`, :func:`solubility`, :func:`synthesizability`, :func:`diversity` and
            :func:`rarity`, or functions of your own from SMILES to scores ``(N,)``; none at all rewards
            validity.

    Raises:
        ValueError: if there are no molecules, or labels are not those of graphs.
    """
    smiles = _smiles(molecules)
    product = _each(lambda one: 1.0, smiles)
    for score in properties:
        product = product * score(smiles)
    return product


# --- all at once --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MoleculeScores:
    """What :func:`molecule_scores` finds. All but ``valid`` are NaN where no molecule is valid.

    Attributes:
        valid: share of all, see :func:`validity`.
        unique: see :func:`uniqueness`.
        novel: see :func:`novelty`.
        qed: mean over the valid molecules, as the next three are.
        solubility: normalised logP.
        synthesizability: normalised synthetic accessibility.
        diversity: normalised distance to QM9.
    """

    valid: float
    unique: float
    novel: float
    qed: float
    solubility: float
    synthesizability: float
    diversity: float


def molecule_scores(molecules: Graphs, known: Container[str] | None = None) -> MoleculeScores:
    """All scores of a set of molecules: shares, and means over the valid ones.

    The authors' code leaves scores that are exactly 0 out of its means; here a valid molecule with a score of
    0 counts. That matters for synthetic accessibility, which is 0 for a fifth of QM9: its mean there is 0.25
    with them and 0.32 without.

    Args:
        molecules: graphs, or their SMILES.
        known: see :func:`novelty`.

    Raises:
        ValueError: if there are no molecules, or labels are not those of graphs.
    """
    smiles = _smiles(molecules)
    valid = [one for one in smiles if one is not None]
    means = [
        score(valid).double().mean().item() if valid else float("nan")
        for score in (qed, solubility, synthesizability, diversity)
    ]
    return MoleculeScores(validity(smiles), uniqueness(smiles), novelty(smiles, known), *means)


# --- one molecule -------------------------------------------------------------------------------------------


def _smiles(molecules: Graphs) -> list[str | None]:
    smiles = to_smiles(molecules) if isinstance(molecules, Molecules) else list(molecules)
    if not smiles:
        raise ValueError("molecules must be at least one, got none")
    return smiles


def _valid(molecules: Graphs) -> list[str]:
    return [one for one in _smiles(molecules) if one is not None]


def _each(score: Callable[[str], float], molecules: Graphs) -> Tensor:
    with quiet():
        scores = [0.0 if one is None else score(one) for one in _smiles(molecules)]
    return torch.tensor(scores, dtype=torch.float32)


def _normalised(value: float, ends: tuple[float, float]) -> float:
    worst, best = ends
    return min(1.0, max(0.0, (value - worst) / (best - worst)))


@lru_cache(maxsize=1 << 10)
def _mol(smiles: str) -> Mol:
    mol = rdkit().Chem.MolFromSmiles(smiles)
    if mol is None or mol.GetNumAtoms() == 0:
        raise ValueError(f"molecules must be SMILES, or None for what is not valid, got {smiles!r}")
    return mol


@lru_cache(maxsize=1 << 17)
def _qed(smiles: str) -> float:
    from rdkit.Chem import QED

    return QED.qed(_mol(smiles))


@lru_cache(maxsize=1 << 17)
def _solubility(smiles: str) -> float:
    from rdkit.Chem import Crippen

    return _normalised(Crippen.MolLogP(_mol(smiles)), LOGP)


@lru_cache(maxsize=1 << 17)
def _synthesizability(smiles: str) -> float:
    return _normalised(_sascorer().calculateScore(_mol(smiles)), SYNTHETIC_ACCESSIBILITY)


@lru_cache(maxsize=1)
def _sascorer() -> ModuleType:
    """RDKit's module for synthetic accessibility: it lies among the contributions, outside of the package."""
    from rdkit import RDConfig

    path = Path(RDConfig.RDContribDir) / "SA_Score" / "sascorer.py"
    spec = importlib.util.spec_from_file_location("sascorer", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _fingerprint(smiles: str) -> ExplicitBitVect:
    return _generator().GetFingerprint(_mol(smiles))


@lru_cache(maxsize=1)
def _generator():
    from rdkit.Chem import rdFingerprintGenerator

    return rdFingerprintGenerator.GetMorganGenerator(radius=4, fpSize=2048)


@lru_cache(maxsize=4)
def _fingerprints(smiles: tuple[str, ...]) -> list[ExplicitBitVect]:
    return [_fingerprint(one) for one in smiles]


@lru_cache(maxsize=1 << 17)
def _distance(smiles: str, reference: tuple[str, ...]) -> float:
    from rdkit.DataStructs import BulkTanimotoSimilarity

    similarities = BulkTanimotoSimilarity(_fingerprint(smiles), _fingerprints(reference))
    return _normalised(1 - np.mean(similarities), TANIMOTO_DISTANCE)


@lru_cache(maxsize=1)
def _qm9_set() -> frozenset[str]:
    return frozenset(qm9_canonical())


@lru_cache(maxsize=1)
def _qm9_sample() -> tuple[str, ...]:
    smiles = qm9_canonical()
    return tuple(smiles[i] for i in np.random.default_rng(0).choice(len(smiles), 100, replace=False))
