from __future__ import annotations

from pathlib import Path

import pytest
from qm.store.layout import InvalidDigest, Layout, digest_of_file_name, parse_digest
from qm.store.name import Name

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        HEX,
        f"sha256:{HEX}\n",
        f"\nsha256:{HEX}",
        f"sha256:{HEX.upper()}",
        f"sha256:{HEX[:-1]}",
        f"sha256:{HEX}0",
        f"sha512:{HEX}",
        f"sha256-{HEX}",
        "sha256:../../etc/x",
        f"sha256:{'../' * 21}a",
        "%2e%2e",
        f"sha256:{HEX[:-2]}\uff41a",
    ],
)
def test_only_a_digest_becomes_a_path(text: str) -> None:
    """A full match of sha256:<64 lower hex>, nothing else."""
    layout = Layout(Path("/store"))
    for build in (parse_digest, layout.blob, layout.claim, layout.watch, layout.trashed):
        with pytest.raises(InvalidDigest):
            build(text)


def test_a_digest_and_its_file_name_are_inverse() -> None:
    """blobs/sha256-<hex> stands for sha256:<hex>."""
    path = Layout(Path("/store")).blob(f"sha256:{HEX}")
    assert path == Path(f"/store/blobs/sha256-{HEX}")
    assert digest_of_file_name(path.name) == f"sha256:{HEX}"
    assert digest_of_file_name(".DS_Store") is None


def test_a_manifest_lies_below_its_names_parts() -> None:
    """manifests/host/namespace/model/tag, as Ollama has it."""
    path = Layout(Path("/store")).manifest(Name.parse("hf.co/org/Repo:Q4"))
    assert path == Path("/store/manifests/hf.co/org/Repo/Q4")


def test_a_new_store_is_private(tmp_path: Path) -> None:
    """Nobody else reads what its owner's models say, under any umask."""
    Layout(tmp_path / "a" / "store").create()
    assert (tmp_path / "a" / "store").stat().st_mode & 0o777 == 0o700
