"""Recordings by OpenAI's form: what it means, what is refused, and a model that hears."""

from __future__ import annotations

import http.client
import io
import json
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from qm.daemon.http.form import Form
from qm.daemon.http.ollama_request import InvalidField, ModelNameMissing
from qm.daemon.http.transcription import transcription_request

from ...modelfiles.build.tiny_llama import write_tiny_llama
from ..runner.tiny_projector import write_tiny_ears
from .conftest import CHATML, digest_of

LIMIT_S = 60
FEW = {"temperature": 0, "num_predict": 8, "ignore_eos": True}


def asked(**texts: str) -> Any:
    return transcription_request(Form({"model": "m", **texts}, {"file": b"RIFF"}))


def test_a_form_is_a_turn_with_a_recording() -> None:
    request = asked(language="no", prompt="Hei", temperature="0.5")
    (turn,) = request.messages
    assert (turn.images, request.think, request.options.temperature) == ((b"RIFF",), False, 0.5)
    assert "'no'" in turn.content
    assert "Hei" in turn.content
    assert asked().options.temperature == 0


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ({"response_format": "srt"}, "response_format must be"),
        ({"temperature": "hot"}, "temperature must be"),
        ({"temperature": "-1"}, "temperature must be"),
        ({"temperature": "nan"}, "temperature must be"),
        ({"stream": "maybe"}, "stream must be"),
    ],
)
def test_bad_fields_are_named(texts: dict[str, str], reason: str) -> None:
    with pytest.raises(InvalidField, match=reason):
        asked(**texts)


def test_model_and_file_are_needed() -> None:
    with pytest.raises(ModelNameMissing):
        transcription_request(Form({}, {"file": b"x"}))
    with pytest.raises(InvalidField, match="file is required"):
        transcription_request(Form({"model": "m"}, {}))


@pytest.fixture(scope="module")
def daemon(start_module_daemon: Callable[..., Any], tmp_path_factory: Any) -> Any:
    """A daemon with a model that hears, and bodies of at most a megabyte."""
    made, folder = start_module_daemon(QM_MAX_BODY_BYTES="1MiB"), tmp_path_factory.mktemp("hearing")
    files: dict[str, str] = {}
    for name, write in (("model", write_tiny_llama), ("mmproj", write_tiny_ears)):
        path: Path = folder / f"{name}.gguf"
        write(path, *((np.float32,) if name == "model" else ()))
        status, lines = made.call("POST", "/qm/adopt", {"path": str(path)})
        assert status == 200, lines
        files[path.name] = f"sha256:{digest_of(lines)}"
    body = {"model": "ears", "files": files, "template": CHATML, "parameters": FEW, "stream": False}
    made.json("POST", "/api/create", body)
    return made


@pytest.fixture
def client(daemon: Any) -> Iterator[openai.OpenAI]:
    host = daemon.json("GET", "/qm/status")["host"]
    with openai.OpenAI(base_url=f"http://{host}/v1", api_key="none", max_retries=0) as client:
        yield client


def recording() -> bytes:
    """A second of a tone."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16_000)
        tone = 9_000 * np.sin(np.arange(16_000) * 0.17)
        sound.writeframes(tone.astype("<i2").tobytes())
    return file.getvalue()


@pytest.mark.slow
def test_a_model_that_hears(client: openai.OpenAI, daemon: Any) -> None:
    """Whole, as plain text, and streamed, the same words come out."""
    assert "audio" in daemon.json("POST", "/api/show", {"model": "ears"})["capabilities"]
    file = ("a.wav", recording())
    whole = client.audio.transcriptions.create(model="ears", file=file)
    assert whole.usage is not None
    assert whole.usage.type == "tokens"
    assert whole.usage.output_tokens == FEW["num_predict"]
    text = client.audio.transcriptions.create(model="ears", file=file, response_format="text")
    assert text.strip() == whole.text
    events = list(client.audio.transcriptions.create(model="ears", file=file, stream=True))
    assert events[-1].type == "transcript.text.done"
    assert events[-1].text == "".join(
        event.delta for event in events if event.type == "transcript.text.delta"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "body", "status", "reason"),
    [
        ("multipart/form-data", b"--x\r\n", 400, "failed to parse multipart form"),
        ("multipart/form-data; boundary=x", b"nothing", 400, "failed to parse multipart form"),
        ("multipart/form-data; boundary=x", b"--x--\r\n", 400, "model is required"),
        ("multipart/form-data; boundary=x", b"--x\r\nA: \x16\r\n\r\n", 400, "headers of a part"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nears\r\n--x--\r\n',
            400,
            "file is required",
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
            + b"a" * 1_200_000
            + b"\r\n--x--\r\n",
            413,
            "larger than",
        ),
    ],
)
def test_broken_forms_are_refused(
    daemon: Any, kind: str, body: bytes, status: int, reason: str
) -> None:
    connection = http.client.HTTPConnection(
        daemon.json("GET", "/qm/status")["host"], timeout=LIMIT_S
    )
    headers = {"Content-Type": kind}
    connection.request("POST", "/v1/audio/transcriptions", body, headers)
    response = connection.getresponse()
    told = json.loads(response.read())["error"]
    connection.close()
    assert (response.status, reason in told["message"]) == (status, True), told


@pytest.mark.slow
def test_a_file_that_is_no_recording_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="can't be read"):
        client.audio.transcriptions.create(model="ears", file=("a.wav", b"nothing of the kind"))
