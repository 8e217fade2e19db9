"""QM9 as graphs: against the source, RDKit's canonical SMILES, a small parser, and scipy's components."""

import hashlib
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from ganlib.data import Molecules, build_qm9, molecules, qm9, qm9_smiles
from ganlib.data.molecules import graphs, molecule, parse, qm9_canonical, quiet, to_smiles, uncharged

Chem = pytest.importorskip("rdkit.Chem")

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "../shared/data/qm9.smi"


@pytest.fixture(scope="module")
def data():
    return qm9()


@pytest.fixture(scope="module")
def smiles():
    return qm9_smiles()


def rows(labels: Molecules, index) -> Molecules:
    return Molecules(labels.nodes[index], labels.edges[index])


def graph(nodes: str, *bonds: tuple[int, int, int], size: int = 9) -> Molecules:
    """One graph by hand: "CO_N" is carbon, oxygen, padding, nitrogen."""
    labels = torch.zeros(1, size, dtype=torch.uint8)
    edges = torch.zeros(1, size, size, dtype=torch.uint8)
    for i, symbol in enumerate(nodes):
        labels[0, i] = "_CNOF".index(symbol)
    for i, j, order in bonds:
        edges[0, i, j] = edges[0, j, i] = order
    return Molecules(labels, edges)


def permuted(labels: Molecules, generator: torch.Generator) -> Molecules:
    """The same graphs with the vertices of each in an order of its own."""
    n, v = labels.nodes.shape
    order = torch.rand(n, v, generator=generator).argsort(1)
    edges = labels.edges.gather(1, order[:, :, None].expand(-1, -1, v))
    return Molecules(labels.nodes.gather(1, order), edges.gather(2, order[:, None, :].expand(-1, v, -1)))


# --- the embedded strings -----------------------------------------------------------------------------------


def test_the_source_can_be_rebuilt(smiles):
    assert len(smiles) == 130_831
    content = "".join(f"{one}\n" for one in smiles).encode()
    assert hashlib.sha256(content).hexdigest() == build_qm9.SHA256


@pytest.mark.skipif(not SOURCE.exists(), reason="the source is not beside the repository")
def test_the_builder_reads_the_source_and_no_other_file(smiles, tmp_path):
    assert build_qm9.read_smiles(SOURCE) == smiles
    (tmp_path / "qm9.smi").write_text("C\nN\n")
    with pytest.raises(ValueError, match="not the file of 130,831 SMILES"):
        build_qm9.read_smiles(tmp_path / "qm9.smi")


@given(st.lists(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12)))
@settings(max_examples=50, deadline=None)
def test_packing_loses_nothing(strings):
    assert molecules.unpack(molecules.pack(strings)) == strings


def test_the_asset_is_small_and_its_licence_stands_beside_it():
    assert (molecules.ASSETS / "qm9.xz").stat().st_size < 161_000
    licence = (molecules.ASSETS / "qm9-LICENSE.md").read_text(encoding="utf-8")
    for word in ("CC0", "Ramakrishnan", "Dral", "Rupp", "von Lilienfeld", "130,831", "3,054"):
        assert word in licence


# --- the graphs ---------------------------------------------------------------------------------------------


def test_labels_are_in_form(data):
    nodes, edges = data
    assert nodes.shape == (130_831, 9) and edges.shape == (130_831, 9, 9)
    assert nodes.dtype == edges.dtype == torch.uint8
    assert nodes.max() == 4 and edges.max() == 3
    assert torch.equal(edges, edges.mT) and not edges.diagonal(dim1=1, dim2=2).any()
    atoms = nodes > 0
    assert torch.equal(atoms, atoms.cummin(1).values)  # padding comes last
    assert not edges[~(atoms[:, :, None] & atoms[:, None, :])].any()


def test_the_source_has_as_many_of_each_atom_and_bond(data, smiles):
    # counted in the text: one letter is one heavy atom, and = and # stand for nothing but bonds
    text = "".join(smiles)
    assert [int((data.nodes == k).sum()) for k in range(1, 5)] == [text.count(c) for c in "CNOF"]
    assert [int((data.edges == k).sum()) for k in (2, 3)] == [2 * text.count(c) for c in "=#"]


def read(smiles: str) -> Molecules:
    """A reader of the SMILES that QM9 has: atoms, bonds, branches, rings of one digit."""
    atoms, bonds, rings, stack, last, order = "", [], {}, [], None, 1
    for token in re.findall(r"[CNOF]|[=#]|\d|[()]", re.sub(r"\[(\w)H?\d?[+-]\]", r"\1", smiles)):
        if token.isalpha():
            if last is not None:
                bonds.append((last, len(atoms), order))
            last, order, atoms = len(atoms), 1, atoms + token
        elif token in "=#":
            order = "=#".index(token) + 2
        elif token == "(":
            stack.append(last)
        elif token == ")":
            last = stack.pop()
        elif token in rings:
            start, opened = rings.pop(token)
            bonds.append((start, last, max(order, opened)))
            order = 1
        else:
            rings[token], order = (last, order), 1
    return graph(atoms, *bonds)


def test_atoms_and_bonds_are_those_of_the_strings(data, smiles):
    chosen = range(0, 130_831, 53)
    ours = [read(smiles[i]) for i in chosen]
    assert torch.equal(torch.cat([one.nodes for one in ours]), data.nodes[chosen])
    assert torch.equal(torch.cat([one.edges for one in ours]), data.edges[chosen])


def test_there_and_back(data, smiles):
    """Exact but for zwitterions. All are done by build_qm9.py, here every 40th and what may be special."""
    special = [i for i, one in enumerate(smiles) if "[" in one or "N(=O)=O" in one or "O=N(=O)" in one]
    chosen = sorted({*range(0, 130_831, 40), *range(200), *special})
    back = to_smiles(rows(data, chosen))
    with quiet():
        theirs = [Chem.CanonSmiles(smiles[i]) for i in chosen]
    changed = [smiles[i] for i, a, b in zip(chosen, back, theirs, strict=True) if a != b]
    assert changed == [one for one in smiles if "[" in one] and len(changed) == 443
    canonical = qm9_canonical()
    assert back == [canonical[i] for i in chosen]


def test_zwitterions_become_their_uncharged_tautomers(smiles):
    rdMolStandardize = pytest.importorskip("rdkit.Chem.MolStandardize.rdMolStandardize")
    from rdkit.Chem.rdMolDescriptors import CalcMolFormula

    charged = [Chem.MolFromSmiles(one) for one in smiles if "[" in one]
    neutral = [Chem.MolFromSmiles(uncharged(one)) for one in smiles if "[" in one]
    assert not any("[" in uncharged(one) for one in smiles)
    for before, after in zip(charged, neutral, strict=True):
        assert CalcMolFormula(before) == CalcMolFormula(after)  # hydrogens and net charge too
    # RDKit's own way leaves carbanions and neighbours as they are; what it changes, it changes as we do
    uncharger, changed = rdMolStandardize.Uncharger(), 0
    with quiet():
        for before, after in zip(charged, neutral, strict=True):
            Chem.Kekulize(before, clearAromaticFlags=True)
            theirs = uncharger.uncharge(before)
            if not any(atom.GetFormalCharge() for atom in theirs.GetAtoms()):
                Chem.SanitizeMol(theirs)
                assert Chem.MolToSmiles(theirs) == Chem.MolToSmiles(after)
                changed += 1
    assert changed > 350


def test_uncharged():
    assert uncharged("[NH3+]CC([O-])=O") == "NCC(O)=O"
    assert uncharged("C1CC1") == "C1CC1" and uncharged("[nH]1cccc1") == "[nH]1cccc1"
    for one in ("C[N+](=O)[O-]", "[NH4+]", "CC(=O)[O-]", "[NH3+]C[NH2+]C[O-]", "[Na+].[O-]C"):
        with pytest.raises(ValueError, match="smiles must have charges that moving protons removes"):
            uncharged(one)


def test_canonical_strings(smiles):
    canonical = qm9_canonical()
    # 87 strings are another way to write a molecule that stands elsewhere
    assert len(canonical) == 130_831 and len(set(canonical)) == 130_831 - 87
    assert canonical[::5000] == [Chem.CanonSmiles(one) for one in smiles[::5000]]


def test_aromatic_rings_are_kekulised_and_written_bonds_stay():
    benzene = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0)]
    for one, first in (("C1=CC=CC=C1", 2), ("C=1C=CC=CC1", 1)):
        expected = graph(
            "CCCCCC", *[(i, j, first if k % 2 == 0 else 3 - first) for k, (i, j) in enumerate(benzene)]
        )
        assert torch.equal(graphs([one]).edges, expected.edges)
    lower = graphs(["c1ccccc1"])
    assert lower.edges.sum(1).tolist() == [[3] * 6 + [0] * 3]
    assert to_smiles(lower) == ["c1ccccc1"]
    assert to_smiles(graphs(["c1cc[nH]c1"])) == ["c1cc[nH]c1"]


@pytest.mark.parametrize("one", ["CN(=O)=O", "C[N+](=O)[O-]", "CN=N#N", "CN=[N+]=[N-]", "C[N+](C)(C)[O-]"])
def test_five_bonds_of_nitrogen(one):
    labels = graphs([one])
    nitrogen = labels.nodes[0] == 2
    assert 5 in labels.edges[0][nitrogen].sum(1)
    assert to_smiles(labels) == [Chem.CanonSmiles(one)]


def test_stereo_marks_have_no_place():
    assert torch.equal(graphs(["C[C@H](N)O"]).edges, graphs(["CC(N)O"]).edges)


# --- strings that have no graph -----------------------------------------------------------------------------

BAD = {
    "C1CC": "not a SMILES string",
    "F(C)C": "valence",
    "": "0 atoms",
    "CCCCCCCCCC": "10 atoms",
    "CS": "an atom S",
    "[2H]C": "an atom",
    "[13CH4]": "an atom",
    "C[CH2]": "an atom [CH2]",
    "CC(=O)[O-]": "charge",
    "[NH3+]CC([O-])=O": "charge",
    "[CH2-][NH3+]": "charge",
    "C[N+](C)(C)[CH2-]": "charge",
    "C[N+]#[C-]": "charge",
    "C[N+](C)(C)[N-][N+](C)(C)C": "charge",
    "CN->C": "a bond dative",
    "C.C": "several fragments",
    "c1cccc1": "kekulize",
    None: "not a SMILES string",
}


@pytest.mark.parametrize("bad", BAD)
def test_each_is_reported_with_its_line_and_reason(bad, capfd):
    parsed = parse(["C", bad, "CO"])
    assert parsed.lines == [1, 3] and list(parsed.errors) == [2]
    assert BAD[bad] in parsed.errors[2]
    assert to_smiles(parsed.molecules) == ["C", "CO"]
    with pytest.raises(ValueError, match=r"got 1 of 3 that are not: line 2, ") as error:
        graphs(["C", bad, "CO"])
    assert repr(bad) in str(error.value) and BAD[bad] in str(error.value)
    assert capfd.readouterr().err == ""


def test_many_bad_lines_make_one_message():
    with pytest.raises(ValueError, match=r"got 7 of 8 that are not: line 2, .*; line 6, .*; and 2 more$"):
        graphs(["C"] + ["S"] * 7)


def test_no_strings_no_graphs():
    assert graphs([]).nodes.shape == (0, 9) and graphs([]).edges.shape == (0, 9, 9)
    assert to_smiles(graphs([])) == []


@given(st.text(max_size=15) | st.text("CNOF()=#12[]+-H.cn", max_size=15))
@settings(max_examples=150, deadline=None)
def test_no_string_crashes_the_parser(one):
    parsed = parse([one])
    assert len(parsed.lines) + len(parsed.errors) == 1


# --- graphs that are no molecules ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "one", "largest"),
    [
        (graph("C"), "C", "C"),
        (graph("___C_O", (3, 5, 1)), "CO", "CO"),  # padding may be anywhere
        (graph(""), None, None),  # padding only
        (graph("C_O", (0, 1, 1)), None, None),  # a bond to padding
        (graph("FF_O", (0, 1, 1)), None, "FF"),
        (graph("CCO_N", (0, 1, 1), (1, 2, 1)), None, "CCO"),
        (graph("NCO"), None, "C"),  # of equals, the one whose SMILES comes first
        (graph("OF", (0, 1, 2)), None, None),
        (graph("CCCN_FF", (0, 1, 1), (1, 2, 1), (2, 3, 1), (5, 6, 2)), None, None),  # a part is impossible
        (graph("CC", (0, 1, 3)), "C#C", "C#C"),
        (graph("CCCCCC", *[(i, (i + 1) % 6, 1 + i % 2) for i in range(6)]), "c1ccccc1", "c1ccccc1"),
    ],
)
def test_what_is_valid(labels, one, largest):
    assert to_smiles(labels) == [one]
    assert to_smiles(labels, largest_fragment=True) == [largest]
    mol = molecule(labels.nodes[0], labels.edges[0])
    assert (None if mol is None else Chem.MolToSmiles(mol)) == one


def test_a_molecule_keeps_the_order_of_the_vertices():
    labels = graph("O_CN", (0, 2, 1), (2, 3, 1))
    assert [atom.GetSymbol() for atom in molecule(labels.nodes[0], labels.edges[0]).GetAtoms()] == list("OCN")


@st.composite
def random_graphs(draw):
    """Trees and rings of up to nine atoms in any order, some in pieces, with padding between: often valid."""
    size = draw(st.integers(1, 9))
    nodes = draw(st.lists(st.sampled_from("CCCCNNO_F"), min_size=size, max_size=size))
    orders = st.sampled_from([1, 1, 1, 1, 1, 2, 2, 3])
    bonds = [
        (draw(st.integers(0, i - 1)), i, draw(orders)) for i in range(1, size) if draw(st.integers(0, 9))
    ]
    if size > 2:
        ends = st.lists(st.integers(0, size - 1), min_size=2, max_size=2, unique=True)
        bonds += [(*draw(ends), draw(orders)) for _ in range(draw(st.integers(0, 2)))]
    return graph("".join(nodes), *bonds)


@given(random_graphs())
@settings(max_examples=400, deadline=None)
def test_validity_is_a_sum_of_valences_and_a_count_of_components(labels):
    """Without RDKit: C 4, N 3, O 2, F 1 bonds at most, and scipy's connected components."""
    nodes, edges = (part[0].numpy() for part in labels)
    sums = edges.sum(1)
    assume(not ((nodes == 2) & (sums == 5)).any())  # nitro groups and the like: RDKit's own rules
    atoms = nodes > 0
    possible = atoms.any() and not edges[~atoms].any() and (sums <= np.array([9, 4, 3, 2, 1])[nodes]).all()
    _, part = connected_components(edges[atoms][:, atoms], directed=False)
    sizes = np.bincount(part)
    (one,), (largest,) = to_smiles(labels), to_smiles(labels, largest_fragment=True)
    assert (one is not None) == (possible and len(sizes) == 1)
    assert (largest is not None) == possible
    if largest is not None:
        assert Chem.MolFromSmiles(largest).GetNumAtoms() == sizes.max()


@given(random_graphs(), st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_the_order_of_the_vertices_does_not_matter(labels, seed):
    shuffled = permuted(labels, torch.Generator().manual_seed(seed))
    for largest in (False, True):
        assert to_smiles(shuffled, largest) == to_smiles(labels, largest)


def test_the_order_of_the_vertices_does_not_matter_on_qm9(data):
    chosen = rows(data, slice(None, None, 120))
    assert to_smiles(permuted(chosen, torch.Generator().manual_seed(0))) == qm9_canonical()[::120]


@given(random_graphs())
@settings(max_examples=200, deadline=None)
def test_there_and_back_the_other_way(labels):
    (one,) = to_smiles(labels)
    if one is not None:
        assert to_smiles(graphs([one])) == [one]


def test_largest_fragment_counts_what_the_papers_code_reports():
    """Its `valid_total_score` counts what SanitizeMol passes, with padding as atoms of number 0."""
    generator = torch.Generator().manual_seed(0)
    nodes = torch.randint(1, 5, (3000, 5), generator=generator)
    weights = torch.tensor([0.75, 0.2, 0.04, 0.01])
    edges = torch.multinomial(weights, 3000 * 25, True, generator=generator).view(-1, 5, 5).triu(1)
    labels = Molecules(nodes, edges + edges.mT)
    # one vertex of padding, without bonds
    labels.nodes[:1000, 2], labels.edges[:1000, 2], labels.edges[:1000, :, 2] = 0, 0, 0

    def passes(nodes, edges):
        mol = Chem.RWMol()
        for label in nodes.tolist():
            mol.AddAtom(Chem.Atom([0, 6, 7, 8, 9][label]))
        for i, j in edges.triu().nonzero().tolist():
            mol.AddBond(i, j, Chem.BondType.values[int(edges[i, j])])
        return Chem.SanitizeMol(mol, catchErrors=True) == Chem.SANITIZE_NONE

    with quiet():
        theirs = [passes(*one) for one in zip(*labels, strict=True)]
    ours = [one is not None for one in to_smiles(labels, largest_fragment=True)]
    assert ours == theirs and 300 < sum(ours) < 2700
    assert sum(one is not None for one in to_smiles(labels)) < sum(ours) / 2


def test_other_integer_types_and_arrays():
    labels = graph("CO", (0, 1, 1))
    assert to_smiles(Molecules(labels.nodes.long(), labels.edges.int())) == ["CO"]
    assert to_smiles(Molecules(labels.nodes.numpy(), labels.edges.numpy())) == ["CO"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n, e: (n.float(), e), "nodes must be labels of an integer type, got torch.float32"),
        (lambda n, e: (n, e > 0), "edges must be labels of an integer type, got torch.bool"),
        (lambda n, e: (n + 3, e), r"nodes must be in 0..4, got 3..6"),
        (lambda n, e: (n, e.int() - 1), r"edges must be in 0..3, got -1..0"),
        (lambda n, e: (n, e.triu()), "edges must be symmetric"),
        (lambda n, e: (n, e + torch.eye(9, dtype=torch.uint8)), "diagonal of zeros"),
        (lambda n, e: (n[:, :5], e), r"molecules must be nodes \(N, V\) and edges"),
        (lambda n, e: (n[0], e[0]), r"molecules must be nodes \(N, V\) and edges"),
    ],
)
def test_labels_that_are_no_graphs(change, message):
    with pytest.raises(ValueError, match=message):
        to_smiles(Molecules(*change(*graph("CO", (0, 1, 1)))))


def test_the_log_is_quiet_inside_and_as_before_outside(capfd):
    with quiet():
        to_smiles(graphs(["C"]))  # quiet itself, inside
        assert Chem.MolFromSmiles("C1CC") is None
    assert capfd.readouterr().err == ""
    assert Chem.MolFromSmiles("C1CC") is None
    assert "unclosed ring" in capfd.readouterr().err


# --- the cache ----------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder, no memory of an earlier one, and labels at hand for what would decode them."""
    labels = np.array(molecules._qm9_rows(molecules.cache.folder() / f"qm9-{molecules.CRC32:08x}.npy"))
    monkeypatch.setenv("GANLIB_CACHE", str(tmp_path))
    monkeypatch.setattr(molecules, "decode", lambda: labels)
    molecules._qm9_rows.cache_clear()
    molecules._qm9_canonical.cache_clear()
    yield tmp_path
    molecules._qm9_rows.cache_clear()
    molecules._qm9_canonical.cache_clear()


def test_the_checksum_is_that_of_the_labels(data):
    content = np.concatenate([data.nodes, data.edges.flatten(1)], axis=1)
    assert zlib.crc32(content) == molecules.CRC32


def flip(path):
    stored = np.load(path, mmap_mode="r+")
    stored[-1, -1] ^= 1
    stored.flush()


@pytest.mark.parametrize(
    "damage", [flip, lambda path: os.truncate(path, 1000), lambda path: path.write_text("no")]
)
def test_labels_are_stored_once_and_again_if_damaged(cache, monkeypatch, damage, data):
    assert torch.equal(qm9().edges, data.edges)
    (path,) = cache.iterdir()
    sound = path.read_bytes()
    molecules._qm9_rows.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(molecules, "decode", lambda: pytest.fail("decoded again"))
        assert torch.equal(qm9().edges, data.edges)
    molecules._qm9_rows.cache_clear()
    damage(path)
    assert path.read_bytes() != sound
    assert torch.equal(qm9().edges, data.edges)
    assert path.read_bytes() == sound


def test_canonical_strings_are_stored_with_rdkits_version_and_made_again_if_damaged(cache, monkeypatch):
    monkeypatch.setattr(molecules, "qm9_smiles", lambda: ["OC", "[NH3+]CC([O-])=O"])
    assert qm9_canonical() == ["CO", "NCC(=O)O"]
    (path,) = cache.iterdir()
    assert molecules.rdkit().__version__ in path.name
    stored = np.load(path)
    stored[5] ^= 1
    np.save(path, stored)
    molecules._qm9_canonical.cache_clear()
    assert qm9_canonical() == ["CO", "NCC(=O)O"]
    molecules._qm9_canonical.cache_clear()
    monkeypatch.setattr(molecules, "qm9_smiles", lambda: pytest.fail("made again"))
    assert qm9_canonical() == ["CO", "NCC(=O)O"]


def test_what_a_caller_does_to_the_tensors_stays_with_him(data):
    mine = qm9()
    mine.nodes.fill_(0)
    mine.edges.fill_(0)
    assert torch.equal(qm9().nodes, data.nodes) and torch.equal(qm9().edges, data.edges)


# --- without RDKit ------------------------------------------------------------------------------------------

WITHOUT = """
import sys
sys.modules["rdkit"] = None
import ganlib.data, ganlib.metrics
from ganlib.data import molecules
from ganlib.metrics.molecules import reward
graphs = ganlib.data.qm9()
print(len(ganlib.data.qm9_smiles()), len(graphs.nodes))
for function, argument in ((molecules.graphs, ["C"]), (molecules.to_smiles, graphs), (reward, ["C"])):
    try:
        function(argument)
    except ModuleNotFoundError as error:
        print(error)
"""


def test_without_rdkit(data):
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    message = 'molecules need the package RDKit: pip install "ganlib[chem]"'
    assert (run.stdout.splitlines(), run.stderr) == (["130831 130831"] + [message] * 3, "")
