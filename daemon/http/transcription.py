"""What models that hear write down of a recording, by OpenAI's API."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import aclosing

from aiohttp import web
from qm.store.errors import QmError

from ..chat.request import Delta, Event, Finished, Message, Metrics, Request, Role
from ..runner.wire import Options
from ..services import Services
from .edge import PLAIN_JSON, SSE, Stream, answer, sse
from .fields import JsonObject
from .form import Form, read_form
from .ollama_request import InvalidField, ModelNameMissing

_FORMATS = ("json", "text")
_WORDS = {"true": True, "1": True, "false": False, "0": False, "": False}
_TASK = "Transcribe this recording word for word. Write nothing but what is said."


class Deaf(QmError):
    """The model hears nothing; 501 is what clients know for that."""

    status = 501
    code = "unsupported"


async def transcribe(request: web.Request, services: Services) -> web.StreamResponse:
    """Raises NoForm, InvalidField, ModelNotFound, Deaf, and whatever answering raises."""
    form = await read_form(request)
    asked = transcription_request(form)
    if "audio" not in await services.chat.capabilities(asked.model):
        raise Deaf(f"model '{asked.model}' can't transcribe audio: it hears nothing")
    events = services.chat.answer(asked)
    if _flag(form, "stream"):
        return await Stream(request, SSE).send(_stream(events))
    text, metrics = await _whole(events)
    if form.texts.get("response_format") == "text":
        return web.Response(text=f"{text}\n")
    return answer({"text": text, "usage": _usage(metrics)}, content_type=PLAIN_JSON)


def transcription_request(form: Form) -> Request:
    """The meaning of a form: a chat of one turn with the recording in it. Pure."""
    texts = form.texts
    if not texts.get("model"):
        raise ModelNameMissing
    if not form.files.get("file"):
        raise InvalidField("file is required: the recording, as a file of the form", "file")
    if texts.get("response_format", "json") not in _FORMATS:
        reason = "response_format must be json or text: models that chat tell no times"
        raise InvalidField(reason, "response_format")
    _flag(form, "stream")
    wishes = [_TASK]
    if texts.get("language"):
        wishes.append(f"It is spoken in the language {texts['language'][:40]!r}.")
    if texts.get("prompt"):
        wishes.append(f"What was said before: {texts['prompt']}")
    return Request(
        model=texts["model"],
        messages=(Message(Role.USER, " ".join(wishes), images=(form.files["file"],)),),
        think=False,
        options=Options(temperature=_temperature(texts.get("temperature", ""))),
    )


def _flag(form: Form, name: str) -> bool:
    value = form.texts.get(name, "").lower()
    if value not in _WORDS:
        raise InvalidField(f"{name} must be true or false", name)
    return _WORDS[value]


def _temperature(text: str) -> float:
    try:
        value = float(text or 0)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:  # also what is no number
        raise InvalidField("temperature must be a number between 0 and 1", "temperature")
    return value


async def _whole(events: AsyncGenerator[Event]) -> tuple[str, Metrics]:
    texts: list[str] = []
    metrics = Metrics()
    async with aclosing(events):
        async for event in events:
            match event:
                case Delta():
                    texts.append(event.content)
                case Finished():
                    metrics = event.metrics
    return "".join(texts).strip(), metrics


async def _stream(events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    texts: list[str] = []
    async with aclosing(events):
        async for event in events:
            match event:
                case Delta() if event.content:
                    texts.append(event.content)
                    yield sse({"type": "transcript.text.delta", "delta": event.content})
                case Finished():
                    text, usage = "".join(texts), _usage(event.metrics)
                    yield sse({"type": "transcript.text.done", "text": text, "usage": usage})


def _usage(metrics: Metrics) -> JsonObject:
    return {
        "type": "tokens",
        "input_tokens": metrics.prompt_tokens,
        "output_tokens": metrics.generated_tokens,
        "total_tokens": metrics.prompt_tokens + metrics.generated_tokens,
    }
