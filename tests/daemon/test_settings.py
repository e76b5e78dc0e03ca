"""Settings come from the environment, then the file, then the table."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path

import platformdirs
import pytest
from qm.daemon.setting_values import (
    Address,
    InvalidDuration,
    parse_address,
    parse_duration,
    parse_keep_alive,
    parse_size,
)
from qm.daemon.settings import (
    SETTINGS,
    InvalidSetting,
    Settings,
    config_path,
    data_directory,
    load_settings,
)


def load(tmp_path: Path, toml: str = "", **environ: str) -> Settings:
    config = tmp_path / "qm.toml"
    config.write_text(toml)
    return load_settings({"QM_CONFIG": str(config), **environ})


def test_every_setting_fills_one_field() -> None:
    """The table and the dataclass name the same things, each once."""
    fields = [one.name for one in dataclasses.fields(Settings)]
    assert sorted(fields) == sorted(one.field for one in SETTINGS)
    assert len({one.name for one in SETTINGS}) == len(SETTINGS)


def test_every_setting_explains_itself() -> None:
    """A user finds a sentence about each."""
    for one in SETTINGS:
        assert one.name.startswith("QM_"), one
        assert one.doc.endswith("."), one
        assert one.kind, one


def test_defaults_are_complete(tmp_path: Path) -> None:
    """Nothing set: loopback, five minutes, the paths below the home."""
    settings = load(tmp_path, QM_HOME=str(tmp_path))
    assert settings.address == Address("127.0.0.1", 11434)
    assert settings.keep_alive_s == 300
    assert settings.max_queue == 512
    assert settings.socket == tmp_path / "qm.sock"
    assert settings.log_file == tmp_path / "logs" / "daemon.log"


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    """One command's setting must not need an edit of the file."""
    toml = 'keep_alive = "1h"\nmax_queue = 7\norigins = ["https://a", "https://b"]\n'
    settings = load(tmp_path, toml, QM_MAX_QUEUE="9")
    assert settings.keep_alive_s == 3600
    assert settings.max_queue == 9
    assert settings.origins == ("https://a", "https://b")


def test_an_unknown_key_in_the_file_is_an_error(tmp_path: Path) -> None:
    """A misspelt setting would otherwise be ignored for ever."""
    with pytest.raises(InvalidSetting, match="keep_alife"):
        load(tmp_path, 'keep_alife = "1h"')


def test_a_broken_file_is_an_error(tmp_path: Path) -> None:
    """The message names the file."""
    with pytest.raises(InvalidSetting, match=r"qm\.toml"):
        load(tmp_path, "keep_alive = ")


def test_a_missing_file_that_was_asked_for_is_an_error(tmp_path: Path) -> None:
    """Only the default file may be absent."""
    with pytest.raises(InvalidSetting, match="nowhere"):
        load_settings({"QM_CONFIG": str(tmp_path / "nowhere")})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("QM_KEEP_ALIVE", "soon"),
        ("QM_KEEP_ALIVE", "nan"),
        ("QM_MAX_QUEUE", "-1"),
        ("QM_MAX_QUEUE", "0"),
        ("QM_MAX_LOADED_MODELS", "many"),
        ("QM_CONTEXT_LENGTH", "4k"),
        ("QM_MAX_BODY_BYTES", "64 pounds"),
        ("QM_HOST", "localhost:99999"),
        ("QM_HOST", "a b"),
        ("QM_LOAD_TIMEOUT", "0"),
        ("QM_LOG_LEVEL", "loud"),
        ("QM_RPC", "host"),
        ("QM_RPC", "host:0"),
        ("QM_RPC", "host:99999"),
        ("QM_RPC", "[::1]:50052"),
        ("QM_RPC", "a b:1"),
        ("QM_GPU_MEMORY", "RPC0:"),
        ("QM_GPU_MEMORY", "-1"),
        ("QM_GPU_MEMORY", "RPC0:1GiB,RPC0:2GiB"),
        ("QM_GPU_MEMORY", "CUDA0:99999999999TiB"),
        ("QM_GPU_RESERVE", "much"),
    ],
)
def test_nonsense_names_the_variable(tmp_path: Path, name: str, text: str) -> None:
    """Whoever set it finds it."""
    with pytest.raises(InvalidSetting, match=name):
        load(tmp_path, **{name: text})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5m", 300),
        ("1h30m", 5400),
        ("300ms", 0.3),
        ("1.5s", 1.5),
        (".5s", 0.5),
        ("-1s", -1),
        ("0", 0),
        ("2us", 2e-6),
    ],
)
def test_go_durations(text: str, seconds: float) -> None:
    """As Go reads them."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "1d", "--1s", "1s1", "\u0665m"])
def test_what_is_no_go_duration(text: str) -> None:
    """A bare number is none either."""
    with pytest.raises(InvalidDuration):
        parse_duration(text)


def test_keep_alive_takes_seconds_and_forever() -> None:
    """Negative means that it never expires."""
    assert parse_keep_alive("30") == 30
    assert parse_keep_alive("-1") == math.inf
    assert parse_keep_alive("-1m") == math.inf
    assert parse_keep_alive("0") == 0


@pytest.mark.parametrize(
    ("text", "size"),
    [("512", 512), ("1K", 1024), ("64MiB", 64 << 20), ("1.5G", 3 << 29), ("2tb", 2 << 40)],
)
def test_sizes(text: str, size: int) -> None:
    """All in powers of 1024."""
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1", Address("127.0.0.1", 11434)),
        (":8080", Address("127.0.0.1", 8080)),
        ("0.0.0.0:0", Address("0.0.0.0", 0)),
        ("[::1]:9", Address("::1", 9)),
        ("::1", Address("::1", 11434)),
        ("http://localhost:5000/", Address("localhost", 5000)),
        ("off", None),
    ],
)
def test_addresses(text: str, address: Address | None) -> None:
    """Every form that people write, and off."""
    assert parse_address(text) == address


def test_a_key_is_never_shown(tmp_path: Path) -> None:
    """Settings end up in logs and tracebacks."""
    assert "hunter2" not in repr(load(tmp_path, QM_API_KEY="hunter2"))


def test_keys_come_from_variable_and_file(tmp_path: Path) -> None:
    """The file is read when asked, so that keys can be changed while the daemon runs."""
    keys = tmp_path / "keys"
    keys.write_text("one\ntwo\n")
    settings = load(tmp_path, QM_API_KEY="zero", QM_API_KEYS_FILE=str(keys))
    assert settings.api_keys() == ("zero", "one", "two")
    keys.write_text("three\n")
    assert settings.api_keys() == ("zero", "three")


def test_a_socket_path_stays_short(tmp_path: Path) -> None:
    """The kernel allows about a hundred bytes, homes may be deep."""
    home = tmp_path / ("deep" * 40)
    settings = load(tmp_path, QM_HOME=str(home))
    assert len(str(settings.socket)) < 100
    assert settings.socket == load(tmp_path, QM_HOME=str(home)).socket
    assert settings.socket != load(tmp_path, QM_HOME=f"{home}2").socket


def test_the_usual_store_has_its_socket_in_the_runtime_directory(tmp_path: Path) -> None:
    """Which is emptied at logout and private."""
    environ = {"QM_CONFIG": str(tmp_path / "c"), "XDG_RUNTIME_DIR": str(tmp_path)}
    (tmp_path / "c").touch()
    assert load_settings(environ).socket == tmp_path / "qm" / "qm.sock"


@pytest.mark.parametrize("given", [None, "", "relative", "/srv/of user"])
def test_directories_are_those_of_the_platform(
    monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    """Where platformdirs has them, whose import Linux is spared."""
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
        if given is not None:
            monkeypatch.setenv(name, given)
    assert data_directory(os.environ) == platformdirs.user_data_path("qm")
    assert config_path({**os.environ, "QM_CONFIG": ""}) == (
        platformdirs.user_config_path("qm") / "qm.toml"
    )


def test_folders_are_separated_as_people_do(tmp_path: Path) -> None:
    """By commas or like PATH; a colon inside of a name is part of it."""
    wanted = (Path("/a"), Path("/b c"), Path("/d:e"))
    for text in ("/a,/b c,/d:e", "/a:/b c:/d:e", " /a, /b c , /d:e,"):
        assert load(tmp_path, QM_STORES=text).stores == wanted
