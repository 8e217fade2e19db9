"""Scores of molecules against RDKit's functions, published values, counts by hand, and the formulas."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ganlib.data import Molecules, qm9
from ganlib.data.molecules import graphs, qm9_canonical, to_smiles
from ganlib.metrics import molecule_scores
from ganlib.metrics.molecules import (
    diversity,
    novelty,
    qed,
    rarity,
    reward,
    solubility,
    synthesizability,
    uniqueness,
    validity,
)

Chem = pytest.importorskip("rdkit.Chem")

SCORES = (qed, solubility, synthesizability, diversity, rarity)
MIX = ["CCO", "CCO", None, "c1ccccc1", "NCC(=O)O", None, "C#N", "CCO"]


@pytest.fixture(scope="module")
def some() -> Molecules:
    """Every 300th molecule of QM9."""
    nodes, edges = qm9()
    return Molecules(nodes[::300], edges[::300])


def rdkit_molecules(molecules: Molecules) -> list:
    return [Chem.MolFromSmiles(one) for one in to_smiles(molecules)]


# float32 of values in [0, 1]: half a unit in the last place, rounded up
EXACT = {"rtol": 0, "atol": 6e-8}

# --- shares -------------------------------------------------------------------------------------------------


def test_shares_by_hand():
    # 6 of 8 valid; 4 different among the 6; known are CCO, drawn three times, and C#N: 2 of 6 are new
    assert validity(MIX) == 6 / 8
    assert uniqueness(MIX) == 4 / 6
    assert novelty(MIX, {"CCO", "C#N", "CC"}) == 2 / 6
    assert novelty(MIX, []) == 1


def test_shares_of_graphs():
    pad = torch.zeros(1, 9, dtype=torch.uint8), torch.zeros(1, 9, 9, dtype=torch.uint8)
    nodes, edges = graphs(["OCC", "CCO", "C1=CC=CC=C1"])
    mixed = Molecules(torch.cat([nodes, pad[0]]), torch.cat([edges, pad[1]]))
    assert (validity(mixed), uniqueness(mixed), novelty(mixed, {"CCO"})) == (3 / 4, 2 / 3, 1 / 3)


def test_known_is_qm9_unless_told(some):
    assert novelty(some) == 0
    # sulfur is not among QM9's elements
    assert novelty(["CCS", *to_smiles(some)[:3]]) == 1 / 4


def test_nothing_valid():
    for share in (uniqueness, novelty):
        assert math.isnan(share([None, None]))
    assert validity([None]) == 0
    scores = molecule_scores([None, None])
    assert scores.valid == 0
    assert all(math.isnan(value) for name, value in vars(scores).items() if name != "valid")


@pytest.mark.parametrize("score", [validity, uniqueness, novelty, molecule_scores, reward, *SCORES])
def test_no_molecules(score):
    with pytest.raises(ValueError, match="molecules must be at least one, got none"):
        score([])


# --- scores -------------------------------------------------------------------------------------------------


def test_qed_is_rdkits(some):
    from rdkit.Chem import QED

    theirs = [QED.qed(mol) for mol in rdkit_molecules(some)]
    np.testing.assert_allclose(qed(some), theirs, **EXACT)


def test_qed_of_known_drugs():
    """Famotidine, cimetidine and tegaserod, whose values RDKit's documentation has to three digits."""
    drugs = [
        "N=C(CCSCc1csc(N=C(N)N)n1)NS(N)(=O)=O",
        "CNC(=NCCSCc1nc[nH]c1C)NC#N",
        "CCCCCNC(=N)NN=Cc1c[nH]c2ccc(CO)cc12",
    ]
    assert qed(drugs).tolist() == pytest.approx([0.2535, 0.2345, 0.2345], abs=5e-4)


# Wildman and Crippen's table: a carbon with four others or hydrogens (C1), an aromatic one (C18), a hydrogen
# on carbon (H1)
C1, C18, H1 = 0.1441, 0.1581, 0.1230


@pytest.mark.parametrize(
    ("smiles", "log_p"), [("C", C1 + 4 * H1), ("CC", 2 * C1 + 6 * H1), ("c1ccccc1", 6 * (C18 + H1))]
)
def test_solubility_by_hand(smiles, log_p):
    expected = (log_p + 2.12178879609) / (6.0429063424 + 2.12178879609)
    assert solubility([smiles]).item() == pytest.approx(expected, abs=1e-7)  # float32


def test_solubility_ends_at_0_and_1(some):
    from rdkit.Chem import Crippen

    greasy, wet = "C" * 40, "OC(O)C(O)C(O)C(O)C(O)CO"
    assert (
        Crippen.MolLogP(Chem.MolFromSmiles(greasy)) > 6.05 and Crippen.MolLogP(Chem.MolFromSmiles(wet)) < -2.2
    )
    assert solubility([greasy, wet]).tolist() == [1, 0]
    theirs = np.array([Crippen.MolLogP(mol) for mol in rdkit_molecules(some)])
    np.testing.assert_allclose(
        solubility(some), ((theirs + 2.12178879609) / 8.16469513849).clip(0, 1), **EXACT
    )


def test_synthesizability_of_rdkits_own_test_set():
    """The hundred molecules of ZINC that RDKit tests its contribution with, to three digits."""
    from rdkit import RDConfig

    table = Path(RDConfig.RDContribDir) / "SA_Score" / "data" / "zim.100.txt"
    rows = [line.split("\t") for line in table.read_text().splitlines()[1:]]
    published = np.array([float(row[2]) for row in rows])
    expected = ((5 - published) / 3.5).clip(0, 1)
    # half of the third digit, and a thousandth more, which RDKit's own test allows; both over 3.5
    found = synthesizability([row[0] for row in rows])
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.0015 / 3.5)
    assert expected.std() > 0.1


def test_synthesizability_ends_at_0_and_1():
    # a cage that nobody makes, and benzoic acid's methyl ester: scores far beyond 5 and below 1.5
    assert synthesizability(["C1N2C3C2C2C4OC12C34", "COC(=O)c1ccccc1"]).tolist() == [0, 1]


def test_diversity_by_counting_bits(some):
    from rdkit.Chem.rdMolDescriptors import GetMorganFingerprintAsBitVect

    def bits(mol):
        return set(GetMorganFingerprintAsBitVect(mol, 4, nBits=2048).GetOnBits())

    reference = to_smiles(some)[:40]
    ours = diversity(some, reference)
    others = [bits(Chem.MolFromSmiles(one)) for one in reference]
    for score, mol in zip(ours.tolist(), rdkit_molecules(some), strict=True):
        mine = bits(mol)
        distance = np.mean([1 - len(mine & other) / len(mine | other) for other in others])
        assert score == pytest.approx(np.clip((distance - 0.9) / 0.045, 0, 1), abs=1e-6)
    assert ours.min() < 0.2 and ours.max() == 1


def test_diversity_of_a_set_of_one():
    assert diversity(["CCO"], ["CCO"]).item() == 0
    assert diversity(["F"], ["C1CC1"]).item() == 1


def test_diversity_is_to_the_same_hundred_in_every_call(some):
    smiles = qm9_canonical()
    sample = [smiles[i] for i in np.random.default_rng(0).choice(len(smiles), 100, replace=False)]
    assert torch.equal(diversity(some), diversity(some, sample))


def test_rarity_by_hand():
    # 3/4 + 1/n, at most 1: CCO occurs three times, and five of C would have 0.95
    assert rarity(MIX).tolist() == [1, 1, 0, 1, 1, 0, 1, 1]
    assert rarity(["C"] * 5 + ["N"] * 4).tolist() == pytest.approx([0.95] * 5 + [1] * 4)


@pytest.mark.parametrize("score", SCORES)
def test_a_graph_that_is_not_valid_scores_0(score):
    found = score(MIX)
    assert found.shape == (8,) and found.dtype == torch.float32
    assert found[[2, 5]].tolist() == [0, 0]
    assert found.min() >= 0 and found.max() <= 1


@pytest.mark.parametrize("score", [qed, solubility, synthesizability, diversity])
def test_the_order_of_the_atoms_does_not_matter(score):
    ways = ["OCC", "CCO", "C(C)O"]
    assert len(set(score(graphs(ways)).tolist())) == 1


@pytest.mark.parametrize("bad", ["C1CC", ""])
def test_not_a_molecule(bad):
    with pytest.raises(ValueError, match=f"molecules must be SMILES, or None .*, got '{bad}'"):
        synthesizability(["C", bad])


# --- reward -------------------------------------------------------------------------------------------------


def test_reward_is_the_product(some):
    expected = qed(some).double() * solubility(some).double() * synthesizability(some).double()
    # three roundings to float32 of numbers below 1
    np.testing.assert_allclose(reward(some), expected, rtol=3e-7)
    assert torch.equal(reward(some, [synthesizability]), synthesizability(some))
    assert 0 < reward(some).mean() < 0.2


def test_reward_without_properties_is_validity():
    assert reward(MIX, ()).tolist() == [1, 1, 0, 1, 1, 0, 1, 1]
    assert reward(MIX, ()).dtype == torch.float32


def test_a_property_of_your_own():
    def length(smiles):
        return torch.tensor([0.0 if one is None else 1 / len(one) for one in smiles])

    assert reward(["CCO", None, "C"], [length]).tolist() == pytest.approx([1 / 3, 0, 1])


def test_a_batch_counts_as_one_for_rarity():
    assert reward(["C"] * 8, [rarity]).tolist() == pytest.approx([0.875] * 8)


# --- all ----------------------------------------------------------------------------------------------------


def test_scores_of_a_set_by_hand():
    scores = molecule_scores(MIX, known={"CCO"})
    assert (scores.valid, scores.unique, scores.novel) == (6 / 8, 4 / 6, 3 / 6)
    kept = [one for one in MIX if one is not None]
    for score in (qed, solubility, synthesizability, diversity):
        assert getattr(scores, score.__name__) == pytest.approx(score(kept).mean().item(), rel=1e-6)


def test_a_valid_molecule_that_scores_0_counts():
    cage = "C1N2C3C2C2C4OC12C34"
    assert molecule_scores([cage, "COC(=O)c1ccccc1", None], known=()).synthesizability == 0.5


def test_scores_of_qm9(some):
    scores = molecule_scores(some)
    assert (scores.valid, scores.unique, scores.novel) == (1, 1, 0)
    # the means of 10,000 molecules drawn at random, where these are 437: four standard errors of each
    assert scores.qed == pytest.approx(0.466, abs=0.015)
    assert scores.solubility == pytest.approx(0.300, abs=0.025)
    assert scores.synthesizability == pytest.approx(0.248, abs=0.045)
