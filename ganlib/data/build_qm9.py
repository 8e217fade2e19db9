"""Build the embedded QM9 from its SMILES, one a line: ``python -m ganlib.data.build_qm9 FILE``.

What was tried on the 130,831 strings (2,109,816 bytes), all with the strongest xz setting: the lines as they
are, 202,444 bytes; each line less the beginning that it shares with the one before, 180,768; the same less
the shared end too, 197,364; the best of the last four lines instead of the last one, 184,948; lengths and
tails in two streams, 191,820; and, what is used, the number of characters to strip from the line before in
place of the length of what it shares, 160,752. Neighbours differ most often in their last few atoms, so that
this number says the same again and again where the length changes with the molecules' size. The order stays
the file's.
"""

import hashlib
import lzma
import sys
import zlib
from pathlib import Path

from ganlib.data import molecules

SHA256 = "c64f091ab8a2f9eaca39e97df40ab8640f7093421431f320c6e93eef61cce307"
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 3, "lp": 0, "pb": 0}]


def read_smiles(path: Path) -> list[str]:
    """The strings in the file.

    Raises:
        ValueError: if it is not the file that the asset was made of.
    """
    raw = path.read_bytes()
    digest = hashlib.sha256(raw).hexdigest()
    if digest != SHA256:
        raise ValueError(f"{path} is not the file of 130,831 SMILES: SHA-256 {digest}, expected {SHA256}")
    return raw.decode("ascii").splitlines()


def main(path: Path) -> None:
    smiles = read_smiles(path)
    packed = lzma.compress(molecules.pack(smiles), check=lzma.CHECK_CRC32, filters=FILTERS)
    (molecules.ASSETS / "qm9.xz").write_bytes(packed)
    print(f"{len(packed):,} bytes")
    rows = molecules.decode()
    print(f"CRC32: {zlib.crc32(rows):#010x}")
    back = molecules.to_smiles(molecules.from_rows(rows))
    canonical = map(molecules.rdkit().Chem.CanonSmiles, smiles)
    changed = [one for one, a, b in zip(smiles, canonical, back, strict=True) if a != b]
    charged = sum("[" in one for one in changed)
    print(
        f"there and back changes {len(changed)} of {len(smiles):,} molecules, {charged} of them zwitterions"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
