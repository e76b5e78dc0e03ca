"""Which files a Modelfile means, and what is asked of the daemon."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner
from qm.cli import create
from qm.cli.client import Client
from qm.cli.create import create_command
from qm.cli.sources import MissingFile, bring, local_files, with_repository_files
from qm.modelfiles.parser import parse
from qm.modelfiles.quantization import UnknownType
from qm.modelfiles.spec import NotYet, from_modelfile

from .conftest import FakeDaemon


def files_of(text: str, folder: Path) -> dict[str, Path]:
    """The local files that a Modelfile in `folder` names."""
    return dict(local_files(from_modelfile(parse(text)), folder))


def test_paths_start_at_the_modelfile(tmp_path: Path) -> None:
    """Relative paths, and links are followed here: the daemon takes no links."""
    (tmp_path / "real.gguf").touch()
    (tmp_path / "link.gguf").symlink_to("real.gguf")
    found = files_of("FROM ./link.gguf\nADAPTER real.gguf", tmp_path)
    assert found == {
        "./link.gguf": tmp_path / "real.gguf",
        "real.gguf": tmp_path / "real.gguf",
    }


def test_a_name_is_no_file(tmp_path: Path) -> None:
    """Not even if a folder happens to be called so; a repository never is."""
    (tmp_path / "smollm2").mkdir()
    assert files_of("FROM smollm2", tmp_path) == {}
    assert files_of("FROM hf.co/org/repo", tmp_path) == {}


def test_a_folder_means_its_gguf(tmp_path: Path) -> None:
    """If there is exactly one."""
    with pytest.raises(MissingFile, match="none"):
        files_of("FROM .", tmp_path)
    (tmp_path / "a.gguf").touch()
    assert files_of("FROM .", tmp_path) == {".": tmp_path / "a.gguf"}
    (tmp_path / "b.gguf").touch()
    with pytest.raises(MissingFile, match=r"a\.gguf, b\.gguf"):
        files_of("FROM .", tmp_path)


@pytest.mark.parametrize("source", ["./none.gguf", "none.gguf", "/none", "~/none.bin"])
def test_a_missing_file_is_named_with_its_line(tmp_path: Path, source: str) -> None:
    """What looks like a path is never asked for as a model."""
    with pytest.raises(MissingFile, match="line 2: no such file: /"):
        files_of(f"# my model\nFROM {source}", tmp_path)


def run_create(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, *argv: str) -> str:
    """Both streams of `qm create ARGV` against the daemon; raises what the command raises."""
    monkeypatch.setattr(create, "connect", lambda: Client(daemon.socket))
    result = CliRunner(catch_exceptions=False).invoke(create_command, argv)
    return result.output


def test_a_file_is_adopted_then_built(
    fake_daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon gets the file's path first, then the recipe with its digest."""
    (tmp_path / "m.gguf").touch()
    modelfile = tmp_path / "Modelfile"
    modelfile.write_text("FROM m.gguf\nPARAMETER seed 7\nSYSTEM Be brief.")
    digest = f"sha256:{'0' * 64}"
    fake_daemon.will_stream({"status": "success", "digest": digest, "size": 1000, "how": "link"})
    fake_daemon.will_stream({"status": "writing manifest"}, {"status": "success"})
    output = run_create(fake_daemon, monkeypatch, "mine", "-f", str(modelfile))
    assert "m.gguf: 1.0 kB, link" in output
    assert output.endswith("writing manifest\ncreated 'mine'\n")
    assert fake_daemon.bodies() == [
        {"path": str(tmp_path / "m.gguf")},
        {
            "model": "mine",
            "files": {"m.gguf": digest},
            "system": "Be brief.",
            "parameters": {"seed": 7},
        },
    ]


def test_from_replaces_the_modelfiles_from(
    fake_daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a path in it starts where the user stands, not at the Modelfile."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "m.gguf").touch()
    (tmp_path / "Modelfile").write_text("FROM elsewhere.gguf\nSYSTEM S")
    monkeypatch.chdir(tmp_path / "here")
    fake_daemon.will_stream({"status": "success", "digest": "sha256:1"})
    fake_daemon.will_stream({"status": "success"})
    run_create(fake_daemon, monkeypatch, "m", "-f", "../Modelfile", "--from", "m.gguf")
    assert fake_daemon.bodies()[0] == {"path": str(tmp_path / "here" / "m.gguf")}


def test_a_variant_needs_no_modelfile(
    fake_daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--from NAME` alone."""
    monkeypatch.chdir(tmp_path)
    fake_daemon.will_stream({"status": "success"})
    run_create(fake_daemon, monkeypatch, "b", "--from", "a")
    assert fake_daemon.bodies() == [{"model": "b", "from": "a"}]


def test_what_cannot_be_built_yet_copies_nothing(
    fake_daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The instruction is named before any file is touched."""
    (tmp_path / "m.gguf").touch()
    (tmp_path / "Modelfile").write_text("FROM m.gguf\nRENDERER r")
    with pytest.raises(NotYet, match="line 2: RENDERER"):
        run_create(fake_daemon, monkeypatch, "m", "-f", os.fspath(tmp_path / "Modelfile"))
    assert fake_daemon.requests == []


def test_a_type_that_does_not_exist_is_refused_before_any_file_is_touched(
    fake_daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what may have been meant."""
    (tmp_path / "m.gguf").touch()
    with pytest.raises(UnknownType, match="did you mean Q4_K_M"):
        run_create(fake_daemon, monkeypatch, "m", "--from", str(tmp_path), "-q", "Q4_KM")
    assert fake_daemon.requests == []


def test_a_repository_is_all_its_files(tmp_path: Path) -> None:
    """Weights, configuration, tokenizer and card; pictures and what is no file stay outside."""
    for name in ("model.safetensors", "config.json", "tokenizer.json", "README.md", "x.png"):
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "generation_config.json")
    spec = with_repository_files(from_modelfile(parse(f"FROM {tmp_path}")), tmp_path)
    names = {path.name for _, path in local_files(spec, tmp_path)}
    assert names == {"model.safetensors", "config.json", "tokenizer.json", "README.md"}


def test_a_directory_with_both_kinds_of_weights_needs_a_word(tmp_path: Path) -> None:
    """QUANTIZE means the full ones; without it nobody knows."""
    for name in ("model.safetensors", "config.json", "m.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(MissingFile, match="name the GGUF file in FROM"):
        with_repository_files(from_modelfile(parse(f"FROM {tmp_path}")), tmp_path)
    asked = from_modelfile(parse(f"FROM {tmp_path}\nQUANTIZE Q8_0"))
    assert len(with_repository_files(asked, tmp_path).from_) == 2


def test_pickles_are_refused(tmp_path: Path) -> None:
    """Opening one runs whatever is in it."""
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(MissingFile, match="pickle"):
        with_repository_files(from_modelfile(parse(f"FROM {tmp_path}")), tmp_path)


@dataclass(frozen=True, slots=True)
class Recorder(Client):
    """A daemon that only takes files."""

    sent: list[bytes] = field(default_factory=list)

    def upload(self, digest: str, data: bytes) -> None:
        self.sent.append(data)


def test_what_has_no_size_is_read_to_a_bound(tmp_path: Path) -> None:
    """A pipe is read once and whole, a device without an end not until memory is full."""
    client = Recorder(tmp_path / "none")
    reading, writing = os.pipe()
    os.write(writing, b"GGUFs are files, this is a text")
    os.close(writing)
    bring(client, Path(f"/dev/fd/{reading}"))
    os.close(reading)
    assert client.sent == [b"GGUFs are files, this is a text"]
    with pytest.raises(MissingFile, match="/dev/zero has more than 64 MiB"):
        bring(client, Path("/dev/zero"))


def test_a_text_that_is_not_there_is_named(tmp_path: Path) -> None:
    """By its whole path, as it was looked for."""
    client = Recorder(tmp_path / "none")
    for path, why in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(MissingFile, match=f"can't read {path}: {why}"):
            bring(client, path)
