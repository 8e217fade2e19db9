"""QM9's molecules as dense label graphs, and the way from a graph to a molecule and back.

The asset holds the data set's 130,831 SMILES (``assets/qm9.xz``; ``build_qm9.py`` wrote it). What turns them
into graphs, and graphs into molecules, is RDKit, an extra: ``pip install "ganlib[chem]"``. Only the functions
that need it load it.
"""

import lzma
import re
import zlib
from collections.abc import Iterable
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ganlib.data import cache
from ganlib.data.embedded import ASSETS

if TYPE_CHECKING:
    from rdkit.Chem import Mol

ATOMS = ("pad", "C", "N", "O", "F")
BONDS = ("none", "single", "double", "triple")
MAX_ATOMS = 9
COUNT = 130_831
CRC32 = 0x6BB8FCE5  # of the labels of all graphs

# In the asset, a byte of at least this value starts a molecule: how many characters of the one before end.
FRONT = 0x80


class Molecules(NamedTuple):
    """Graphs of N molecules with V vertices each, as labels.

    Attributes:
        nodes: uint8 ``(N, V)``, an index into :data:`ATOMS`: 0 for padding, 1 C, 2 N, 3 O, 4 F. Hydrogens are
            not vertices: they fill up the valences.
        edges: uint8 ``(N, V, V)``, an index into :data:`BONDS`: 0 for none, 1 single, 2 double, 3 triple.
            Symmetric, with a diagonal of zeros.
    """

    nodes: Tensor
    edges: Tensor


class Parsed(NamedTuple):
    """What :func:`parse` finds.

    Attributes:
        molecules: the graphs of those that have one, in their order.
        lines: the line number of each, from 1.
        errors: line number to reason, for all the others.
    """

    molecules: Molecules
    lines: list[int]
    errors: dict[int, str]


def rdkit() -> ModuleType:
    """The package RDKit with what this package uses of it.

    Raises:
        ModuleNotFoundError: if it is not installed; the message says what to install.
    """
    try:
        import rdkit.Chem  # which loads rdkit.rdBase
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("rdkit"):
            raise
        raise ModuleNotFoundError(
            'molecules need the package RDKit: pip install "ganlib[chem]"', name="rdkit"
        ) from None
    return rdkit


# --- the data set -------------------------------------------------------------------------------------------


def qm9_smiles() -> list[str]:
    """QM9's molecules as SMILES: 130,831 strings, in the order of the source. Needs no RDKit.

    Each is a molecule of up to nine atoms C, N, O, F, besides hydrogen, with Kekulé's alternating bonds and
    without stereo marks. Of the 133,885 that were computed, the 3,054 that the authors list as
    uncharacterized are left out. All are neutral, but 443 are zwitterions, such as ``[NH3+]CCC([O-])=O``.

    Source: Ramakrishnan, Dral, Rupp and von Lilienfeld, "Quantum chemistry structures and properties of 134
    kilo molecules", Scientific Data 1, 140022, 2014; CC0.
    """
    return unpack(lzma.decompress((ASSETS / "qm9.xz").read_bytes()))


def qm9() -> Molecules:
    """QM9's molecules as graphs: nodes ``(130831, 9)``, edges ``(130831, 9, 9)``, in the order of the SMILES.

    Atoms come in the order of the SMILES string, padding after them; bonds are the string's own, so aromatic
    rings alternate as written there. Graphs have no charges: each of the 443 zwitterions stands there as its
    uncharged tautomer (:func:`uncharged`), which has the same atoms and bonds. (In the paper's code, too, a
    vertex knows its element only.)

    There and back is exact: :func:`to_smiles` of the graphs is RDKit's canonical SMILES of the strings for
    all of the 130,388 molecules without charges, and of the uncharged tautomers for the other 443, none of
    which is in the data set otherwise.

    The first use needs RDKit and takes about five seconds; the labels are then kept in the folder named by
    the environment variable ``GANLIB_CACHE`` (by default the user's cache folder). Each call returns new
    tensors.

    Raises:
        ModuleNotFoundError: if the graphs are not in the cache and RDKit is not installed.
    """
    rows = _qm9_rows(cache.folder() / f"qm9-{CRC32:08x}.npy")
    return from_rows(rows)


def qm9_canonical() -> list[str]:
    """RDKit's canonical SMILES of :func:`qm9`, in its order: what a generated molecule is looked up in.

    There are 130,744 different ones, for 87 strings are another way to write one of the others. Canonical
    forms may change with RDKit's release, so the cached copy carries its version.

    Raises:
        ModuleNotFoundError: if RDKit is not installed.
    """
    version = rdkit().__version__
    path = cache.folder() / f"qm9-{CRC32:08x}-canonical-{version}.npy"
    return _qm9_canonical(path).tobytes()[4:].decode("ascii").split("\n")


def decode() -> np.ndarray:
    """The labels of QM9's graphs, made anew from the asset: uint8 ``(130831, 90)``, nodes and then edges."""
    nodes, edges = graphs(map(uncharged, qm9_smiles()))
    return np.concatenate([nodes, edges.flatten(1)], axis=1)


@lru_cache(maxsize=1)
def _qm9_rows(path: Path) -> np.ndarray:
    """The labels, mapped from ``path`` where that works."""

    def is_intact(rows: np.ndarray) -> bool:
        right = rows.dtype == np.uint8 and rows.shape == (COUNT, MAX_ATOMS + MAX_ATOMS**2)
        return right and zlib.crc32(rows) == CRC32

    return cache.cached(path, decode, is_intact)


@lru_cache(maxsize=1)
def _qm9_canonical(path: Path) -> np.ndarray:
    """Four bytes of CRC-32 and the text it belongs to, one molecule a line."""

    def make() -> np.ndarray:
        chem = rdkit().Chem
        text = "\n".join(chem.CanonSmiles(uncharged(one)) for one in qm9_smiles()).encode("ascii")
        return np.frombuffer(zlib.crc32(text).to_bytes(4, "little") + text, np.uint8)

    def is_intact(data: np.ndarray) -> bool:
        right = data.dtype == np.uint8 and data.ndim == 1 and len(data) > 4
        return right and zlib.crc32(data[4:]) == int.from_bytes(data[:4].tobytes(), "little")

    return cache.cached(path, make, is_intact)


def pack(smiles: Iterable[str]) -> bytes:
    """Each string as how many characters of the last one to strip from its end, and what to put there."""
    packed, last = bytearray(), b""
    for one in smiles:
        text = one.encode("ascii")
        same = next((k for k, (a, b) in enumerate(zip(text, last, strict=False)) if a != b), None)
        same = min(len(text), len(last)) if same is None else same
        packed += bytes([FRONT + len(last) - same]) + text[same:]
        last = text
    return bytes(packed)


def unpack(packed: bytes) -> list[str]:
    """The strings that :func:`pack` packed."""
    smiles, last = [], ""
    for strip, tail in re.findall(r"([\x80-\xff])([^\x80-\xff]*)", packed.decode("latin-1")):
        last = last[: len(last) - (ord(strip) - FRONT)] + tail
        smiles.append(last)
    return smiles


def uncharged(smiles: str) -> str:
    """A zwitterion's uncharged tautomer: the same atoms and bonds, protons moved from cations to anions.

    ``[NH3+]CC([O-])=O``, glycine as it is in water, becomes ``NCC(O)=O``. A string without charges is
    returned as it is.

    Raises:
        ValueError: if moving protons cannot remove the charges: ``C[N+](=O)[O-]``, ``[NH4+]``.
    """
    if "[" not in smiles:
        return smiles
    neutral, cations = re.subn(r"\[([CNO])H\d?\+\]", r"\1", smiles)
    neutral, anions = re.subn(r"\[([CNO])(?:H\d?)?-\]", r"\1", neutral)
    if cations != anions or re.search(r"[+-]\d*\]", neutral):
        raise ValueError(f"smiles must have charges that moving protons removes, got {smiles!r}")
    return neutral


# --- from molecule to graph ---------------------------------------------------------------------------------


def graphs(smiles: Iterable[str]) -> Molecules:
    """Dense label graphs of molecules, nine vertices each: atoms in the order of the string, then padding.

    Aromatic rings are kekulised; bonds that are written as single and double stay where they are. A nitro
    group has two double bonds, ``N(=O)=O``, however it is written. Stereo marks are dropped: the graph has no
    place for them.

    Args:
        smiles: one molecule each, connected, of up to nine atoms C, N, O and F besides hydrogen.

    Raises:
        ValueError: if any of them has no such graph; the message has the line number of each (up to five) and
            why. :func:`parse` returns both the graphs and the reasons.
        ModuleNotFoundError: if RDKit is not installed.
    """
    smiles = list(smiles)
    parsed = parse(smiles)
    if parsed.errors:
        lines = [f"line {line}, {smiles[line - 1]!r}: {why}" for line, why in parsed.errors.items()]
        more = f"; and {len(lines) - 5} more" if len(lines) > 5 else ""
        raise ValueError(
            f"smiles must be molecules of up to {MAX_ATOMS} neutral atoms C, N, O, F, got {len(lines)} of "
            f"{len(smiles)} that are not: {'; '.join(lines[:5])}{more}"
        )
    return parsed.molecules


def parse(smiles: Iterable[str]) -> Parsed:
    """Like :func:`graphs`, but strings without a graph are reported by line instead of raising an error.

    Raises:
        ModuleNotFoundError: if RDKit is not installed.
    """
    rows, lines, errors = [], [], {}
    with quiet():
        for line, one in enumerate(smiles, start=1):
            try:
                rows.append(_labels(one))
                lines.append(line)
            except ValueError as error:  # RDKit's own are ValueErrors too
                errors[line] = str(error)
    return Parsed(from_rows(np.array(rows, np.uint8)), lines, errors)


def _labels(smiles: str) -> np.ndarray:
    """One row of labels, nodes then edges; a ValueError says why there is none."""
    chem = rdkit().Chem
    mol = chem.MolFromSmiles(smiles, sanitize=False) if isinstance(smiles, str) else None
    if mol is None:
        raise ValueError("not a SMILES string")
    checks, orders = _rules()
    chem.SanitizeMol(mol, checks)
    if not 1 <= mol.GetNumAtoms() <= MAX_ATOMS:
        raise ValueError(f"{mol.GetNumAtoms()} atoms")
    if len(chem.GetMolFrags(mol)) > 1:
        raise ValueError("several fragments")
    row = np.zeros(MAX_ATOMS + MAX_ATOMS**2, np.uint8)
    edges = row[MAX_ATOMS:].reshape(MAX_ATOMS, MAX_ATOMS)
    charged = False
    # By index: RDKit's own iteration over atoms and bonds takes twice the time.
    for i, atom in enumerate(map(mol.GetAtomWithIdx, range(mol.GetNumAtoms()))):
        symbol = atom.GetSymbol()
        if symbol not in ATOMS or atom.GetIsotope() or atom.GetNumRadicalElectrons():
            raise ValueError(f"an atom {atom.GetSmarts()}")
        row[i] = ATOMS.index(symbol)
        charged |= atom.GetFormalCharge() != 0
    for bond in map(mol.GetBondWithIdx, range(mol.GetNumBonds())):
        i, j, kind = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), bond.GetBondType()
        if kind not in orders:
            raise ValueError(f"a bond {kind.name.lower()}")
        edges[i, j] = edges[j, i] = orders[kind]
    if charged:
        _join_charges(mol, edges)
        chem.SanitizeMol(mol)
        back = _molecule(row[:MAX_ATOMS], edges, largest_fragment=False)
        if back is None or chem.MolToSmiles(back) != chem.MolToSmiles(mol, isomericSmiles=False):
            raise ValueError("charges, which a graph does not have")
    return row


@lru_cache(maxsize=1)
def _rules() -> tuple[int, dict]:
    """RDKit's checks of valences and its kekulisation, and what bonds there may be with their labels.

    Aromaticity is not perceived, so that bonds stay as they are written.
    """
    chem = rdkit().Chem
    checks = chem.SANITIZE_CLEANUP | chem.SANITIZE_PROPERTIES | chem.SANITIZE_KEKULIZE
    return checks | chem.SANITIZE_FINDRADICALS, {chem.BondType.values[order]: order for order in (1, 2, 3)}


def _join_charges(mol: "Mol", edges: np.ndarray) -> None:
    """Turn [N+](=O)[O-] back into N(=O)=O, which ``SanitizeMol`` rewrote with two charges for a bond."""
    for bond in mol.GetBonds():
        if {bond.GetBeginAtom().GetFormalCharge(), bond.GetEndAtom().GetFormalCharge()} == {1, -1}:
            i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
            edges[i, j] = edges[j, i] = edges[i, j] + 1


def from_rows(rows: np.ndarray) -> Molecules:
    """Tensors of rows of labels, nodes then edges; each contiguous, so a copy of its columns."""
    labels = torch.from_numpy(rows).view(len(rows), MAX_ATOMS + MAX_ATOMS**2)
    nodes, edges = labels.split([MAX_ATOMS, MAX_ATOMS**2], dim=1)
    return Molecules(nodes.contiguous(), edges.unflatten(1, (MAX_ATOMS, MAX_ATOMS)).contiguous())


# --- from graph to molecule ---------------------------------------------------------------------------------


def to_smiles(molecules: Molecules, largest_fragment: bool = False) -> list[str | None]:
    """RDKit's canonical SMILES of each graph; None where the graph is not a molecule.

    A graph is a molecule, or *valid*, if

    - it has at least one atom (a graph of padding only is not valid), and no bond touches padding;
    - RDKit's ``SanitizeMol`` accepts it: no atom has more bonds than its valence has room for. Hydrogens fill
      up the rest; a nitrogen with five bonds may pass, such as the nitro group's, for RDKit rewrites it with
      charges;
    - all its atoms are connected. With ``largest_fragment`` they need not be: the molecule is then the
      fragment with the most atoms (of several such, the one whose SMILES comes first).

    Published figures differ by this. The paper's code reports the share that passes ``SanitizeMol``, whatever
    falls apart, with padding as atoms of their own: ``largest_fragment=True`` gives that share, but for
    graphs of padding only and bonds to padding. Its reward for validity goes to connected
    molecules without any padding, of nine atoms that is.

    Permuting the vertices of a graph does not change its SMILES. What was seen before is remembered.

    Args:
        molecules: nodes ``(N, V)`` and edges ``(N, V, V)`` of any integer type, on any device; padding may be
            anywhere.
        largest_fragment: accept a graph that falls apart, and take its largest part.

    Raises:
        ValueError: if shapes do not fit, labels are out of range, or edges are not symmetric with a zero
            diagonal.
        ModuleNotFoundError: if RDKit is not installed.
    """
    nodes, edges = _checked(molecules)
    with quiet():
        return [
            _canonical(n.tobytes(), e.tobytes(), largest_fragment) for n, e in zip(nodes, edges, strict=True)
        ]


def molecule(nodes: Tensor, edges: Tensor, largest_fragment: bool = False) -> "Mol | None":
    """One graph, nodes ``(V,)`` and edges ``(V, V)``, as RDKit's molecule, sanitised; None if not valid.

    See :func:`to_smiles` for what is valid and which errors there are. Atoms keep the order of the vertices.
    """
    nodes, edges = _checked(Molecules(nodes[None], edges[None]))
    with quiet():
        return _molecule(nodes[0], edges[0], largest_fragment)


def quiet() -> AbstractContextManager:
    """RDKit prints no warnings inside this context; afterwards its log is as it was before.

    Raises:
        ModuleNotFoundError: if RDKit is not installed.
    """
    return rdkit().rdBase.BlockLogs()


def _checked(molecules: Molecules) -> tuple[np.ndarray, np.ndarray]:
    """Labels as uint8 arrays, after a look at their shapes, ranges and symmetry."""
    nodes, edges = map(torch.as_tensor, molecules)
    n, v = nodes.shape if nodes.ndim == 2 else (-1, -1)
    if tuple(edges.shape) != (n, v, v):
        raise ValueError(
            f"molecules must be nodes (N, V) and edges (N, V, V), got {tuple(nodes.shape)} and "
            f"{tuple(edges.shape)}"
        )
    for name, labels, names in (("nodes", nodes, ATOMS), ("edges", edges, BONDS)):
        if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            raise ValueError(f"{name} must be labels of an integer type, got {labels.dtype}")
        if labels.numel() and not (labels.min() >= 0 and labels.max() < len(names)):
            raise ValueError(
                f"{name} must be in 0..{len(names) - 1}, got {int(labels.min())}..{int(labels.max())}"
            )
    if not torch.equal(edges, edges.mT) or edges.diagonal(dim1=1, dim2=2).any():
        raise ValueError("edges must be symmetric with a diagonal of zeros, got others")
    return nodes.to("cpu", torch.uint8).numpy(), edges.to("cpu", torch.uint8).numpy()


@lru_cache(maxsize=1 << 17)
def _canonical(nodes: bytes, edges: bytes, largest_fragment: bool) -> str | None:
    labels = np.frombuffer(nodes, np.uint8)
    mol = _molecule(labels, np.frombuffer(edges, np.uint8).reshape(len(labels), -1), largest_fragment)
    return None if mol is None else rdkit().Chem.MolToSmiles(mol)


def _molecule(nodes: np.ndarray, edges: np.ndarray, largest_fragment: bool) -> "Mol | None":
    chem = rdkit().Chem
    first, second = (ends.tolist() for ends in np.nonzero(np.triu(edges)))
    place, mol = {}, chem.RWMol()
    for vertex, label in enumerate(nodes.tolist()):
        if label:
            place[vertex] = mol.AddAtom(chem.Atom(ATOMS[label]))
    for i, j in zip(first, second, strict=True):
        if i not in place or j not in place:
            return None
        mol.AddBond(place[i], place[j], chem.BondType.values[int(edges[i, j])])
    if not place or chem.SanitizeMol(mol, catchErrors=True) != chem.SANITIZE_NONE:
        return None
    if len(chem.GetMolFrags(mol)) == 1:
        return mol.GetMol()
    if not largest_fragment:
        return None
    parts = chem.GetMolFrags(mol, asMols=True)
    return min(parts, key=lambda part: (-part.GetNumAtoms(), chem.MolToSmiles(part)))
