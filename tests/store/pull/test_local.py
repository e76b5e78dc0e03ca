"""Other programs' models, told by the layout of their folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from qm.store.image import CONFIG_TYPE, MODEL_TYPE, Descriptor, Manifest
from qm.store.name import Name
from qm.store.pull.local import Found, FoundFiles, FoundImage, NothingThere, Unusable, find_models


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"GGUF")


def names(found: list[Found]) -> list[str]:
    return [str(each.name) for each in found if not isinstance(each, Unusable)]


def find(path: Path) -> list[Found]:
    return list(find_models(path))


def test_an_ollama_store(tmp_path: Path) -> None:
    """Its models by their names; a broken manifest is told and stops nothing."""
    digest = f"sha256:{1:064x}"
    layer = Descriptor(MODEL_TYPE, digest, 4)
    manifest = Manifest(Descriptor(CONFIG_TYPE, f"sha256:{2:064x}", 2), (layer,))
    (tmp_path / "blobs").mkdir()
    for place in ("registry.ollama.ai/library/llama3/8b", "hf.co/org/repo/Q4_0"):
        path = tmp_path / "manifests" / place
        path.parent.mkdir(parents=True)
        path.write_bytes(manifest.to_json())
    (tmp_path / "manifests/registry.ollama.ai/library/llama3/bad").write_bytes(b"{")
    found = find(tmp_path)
    assert names(found) == ["hf.co/org/repo:Q4_0", "llama3:8b"]
    assert [each.manifest for each in found if isinstance(each, FoundImage)] == [manifest] * 2
    (bad,) = (each for each in found if isinstance(each, Unusable))
    assert bad.path.name == "bad"


def test_a_hugging_face_cache(tmp_path: Path) -> None:
    """The newest snapshot of each repository, its links followed to the files."""
    touch(tmp_path, "models--org--My.Repo-GGUF/blobs/abc")
    snapshot = tmp_path / "models--org--My.Repo-GGUF/snapshots/0123"
    snapshot.mkdir(parents=True)
    (snapshot / "my-repo-q4_k_m.gguf").symlink_to("../../blobs/abc")
    (found,) = find(tmp_path)
    assert isinstance(found, FoundFiles)
    assert found.name == Name.parse("hf.co/org/My.Repo-GGUF:Q4_K_M")
    assert [path.name for path in found.files] == ["abc"]
    assert names(find(tmp_path.parent)) != []  # and as a folder above, by file name


def test_the_tree_of_lm_studio(tmp_path: Path) -> None:
    """publisher/repo/file is a name; a projector comes along with its neighbours."""
    touch(
        tmp_path,
        "pub/Repo-GGUF/Repo-Q8_0.gguf",
        "pub/Repo-GGUF/mmproj-Repo-f16.gguf",
        "pub/Other/other.gguf",
    )
    found = find(tmp_path)
    assert names(found) == ["pub/Other:other", "pub/Repo-GGUF:Q8_0"]
    assert [[p.name for p in f.files] for f in found if isinstance(f, FoundFiles)] == [
        ["other.gguf"],
        ["Repo-Q8_0.gguf", "mmproj-Repo-f16.gguf"],
    ]


def test_parts_are_one_model(tmp_path: Path) -> None:
    """All of them in order, or none."""
    touch(tmp_path, "big-Q4_0-00002-of-00002.gguf", "big-Q4_0-00001-of-00002.gguf")
    touch(tmp_path, "half-00001-of-00002.gguf")
    whole, half = find(tmp_path)
    assert isinstance(whole, FoundFiles)
    assert (str(whole.name), len(whole.files)) == ("big:Q4_0", 2)
    assert whole.files[0].name.endswith("00001-of-00002.gguf")
    assert isinstance(half, Unusable)
    assert "1 of its 2 parts" in half.reason


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("llama.gguf", "llama:latest"),
        ("Llama-3.2-1B-Instruct-IQ3_XXS.gguf", "Llama-3.2-1B-Instruct:IQ3_XXS"),
        ("my model (1).GGUF", "my-model-1:latest"),
        ("q8_0.gguf", "q8_0:Q8_0"),
        ("-rf.gguf", "rf:latest"),
    ],
)
def test_a_single_file(tmp_path: Path, file: str, name: str) -> None:
    """Its name is made of what the file is called, and always is a valid one."""
    touch(tmp_path, file)
    assert names(find(tmp_path / file)) == [name]


def test_what_can_have_no_name_is_told(tmp_path: Path) -> None:
    """Neither that nor a link to nowhere stops the others."""
    touch(tmp_path, "....gguf", "fine.gguf", "é.gguf")
    (tmp_path / "gone.gguf").symlink_to(tmp_path / "nowhere")
    found = find(tmp_path)
    assert names(found) == ["fine:latest"]
    assert len([each for each in found if isinstance(each, Unusable)]) == 2


def test_nothing_there(tmp_path: Path) -> None:
    """A missing path is an error, an empty folder is not."""
    assert find(tmp_path) == []
    with pytest.raises(NothingThere):
        find(tmp_path / "gone")
