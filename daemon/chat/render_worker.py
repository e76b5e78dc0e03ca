"""Renders chat templates, which come with models and are trusted by nobody.

Run as `python -m qm.daemon.chat.render_worker FD` by `render.Renderer`, which kills it when it
takes too long. In here: Jinja's immutable sandbox, limits on memory and CPU time, a cap on output.
"""

from __future__ import annotations

import datetime
import functools
import json
import math
import resource
import socket
import sys
import time
from typing import Any, Final, Never

import jinja2
import jinja2.ext
import jinja2.sandbox
import msgspec
from qm.modelfiles.build.jinja import Generation
from qm.modelfiles.gotemplate.chat import render_chat
from qm.modelfiles.gotemplate.errors import ExecutionError
from qm.modelfiles.gotemplate.errors import TemplateSyntaxError as GoSyntaxError
from qm.modelfiles.template import Syntax

from ..runner.wire import FrameReader
from .render_wire import Rendered, RenderJob, frame

MEMORY_BYTES: Final = 512 * 1024 * 1024
CACHED_TEMPLATES: Final = 16
_READ_BYTES: Final = 262_144

# A template sees these names and no others, whatever the request carries.
VARIABLES: Final = frozenset(
    {
        *("messages", "tools", "documents", "system", "prompt", "suffix", "response"),
        *("add_generation_prompt", "bos_token", "eos_token", "unk_token", "pad_token"),
        *("enable_thinking", "thinking", "reasoning_effort", "thinking_budget"),
        *("builtin_tools", "custom_tools", "xml_tools", "python_tools", "tools_in_user_message"),
        *("controls", "safety_mode", "citation_mode", "date_string"),
    }
)


class TemplateRefused(Exception):
    """The template said no (`raise_exception`), with its own words."""


def main() -> None:
    """Serves render jobs until the daemon closes its end."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    if sys.platform == "linux":  # elsewhere the limit exists, but a process can't be given it
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    frames = FrameReader()
    decoder = msgspec.msgpack.Decoder(RenderJob)
    while data := connection.recv(_READ_BYTES):
        for body in frames.feed(data):
            job = decoder.decode(body)
            connection.sendall(frame(answer(job)))


def answer(job: RenderJob) -> Rendered:
    """The rendered text of `job`, or why there is none."""
    _limit_cpu(job.limit_s)
    try:
        return Rendered(job.id, text=render(job))
    except jinja2.TemplateSyntaxError as error:
        return Rendered(job.id, error=f"line {error.lineno}: {error.message}")
    except (TemplateRefused, GoSyntaxError, ExecutionError) as error:
        return Rendered(job.id, error=str(error))
    except MemoryError:
        return Rendered(job.id, error=f"it needs more than {MEMORY_BYTES >> 20} MiB of memory")
    except RecursionError:
        return Rendered(job.id, error="it is nested too deeply")
    except Exception as error:  # noqa: BLE001  # rim: templates raise whatever Python can raise
        return Rendered(job.id, error=f"{type(error).__name__}: {error}")


def render(job: RenderJob) -> str:
    """Raises whatever the template raises, and ValueError for too much output."""
    context = {name: value for name, value in job.context.items() if name in VARIABLES}
    parts: list[str] = []
    room = job.limit_characters

    def write(part: str) -> None:
        nonlocal room
        room -= len(part)
        if room < 0:
            raise ValueError(f"the output is longer than {job.limit_characters} characters")
        parts.append(part)

    if job.kind == Syntax.GO:
        render_chat(job.template, context, write)
    else:
        for part in _compile(job.template).generate(context):
            write(part)
    return "".join(parts)


@functools.lru_cache(CACHED_TEMPLATES)
def _compile(text: str) -> jinja2.Template:
    return _environment().from_string(text)


@functools.cache
def _environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    """What templates written for transformers expect to find."""
    environment = _Sandbox(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[jinja2.ext.loopcontrols, Generation],
    )
    environment.filters["tojson"] = _to_json
    environment.filters["fromjson"] = json.loads
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _strftime_now
    return environment


class _Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """Jinja's sandbox; repeating a sequence is bounded too, for `'a' * 10**10` is one operation."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and not (abs(left) <= 2**32 and abs(right) <= 64):
            raise ValueError("the power is too large")
        for sequence, times in ((left, right), (right, left)):
            repeated = isinstance(sequence, str | bytes | list | tuple) and isinstance(times, int)
            if repeated and len(sequence) * times > 1_000_000:
                raise ValueError("the repetition is too long")
        return super().call_binop(context, operator, left, right)


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON with its characters as they are; Jinja's own filter escapes them for HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _refuse(message: str) -> Never:
    raise TemplateRefused(message)


def _strftime_now(pattern: str) -> str:
    return datetime.datetime.now().astimezone().strftime(pattern)


def _limit_cpu(limit_s: float) -> None:
    """The kernel ends this process when a job burns more; the daemon starts another."""
    used = time.process_time()
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used + limit_s) + 1, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main()
