"""The notations in which models write tool calls, told from their chat templates."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from . import calls
from .calls import Call, Tools

Reader = Callable[[str, Tools], list[Call]]


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """How a block of calls looks.

    A block stands between one of `starts` and one of `ends` (or the end of the output). `bare`
    formats may also write calls without any mark, as the whole answer. `json_body` says that the
    block is JSON, whose arguments can be streamed. `control` says that the marks are control
    tokens, which the runner leaves out unless asked. `prefill` opens a block in a prompt, for a
    call that is required.
    """

    name: str
    read: Reader
    starts: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    bare: bool = False
    json_body: bool = True
    control: bool = False
    prefill: str = ""


TAGGED: Final = ToolFormat(
    "tagged",
    calls.read_tagged,
    ("<tool_call>",),
    ("</tool_call>",),
    bare=True,
    prefill="<tool_call>\n",
)
PLAIN: Final = ToolFormat("plain", calls.read_json_or_python, bare=True)
LLAMA: Final = ToolFormat(
    "llama",
    calls.read_json_or_python,
    ("<|python_tag|>", "<|python_start|>"),
    ("<|python_end|>",),
    bare=True,
    control=True,
)
MISTRAL: Final = ToolFormat(
    "mistral", calls.read_mistral, ("[TOOL_CALLS]",), bare=True, control=True
)
PIPED: Final = ToolFormat(
    "piped",
    calls.read_json,
    ("<|tool_call|>", "<|tool_calls|>", "functools"),
    ("<|/tool_call|>", "<|/tool_calls|>"),
    bare=True,
    control=True,
)
DEEPSEEK: Final = ToolFormat(
    "deepseek",
    calls.read_deepseek,
    ("<｜tool▁calls▁begin｜>",),
    ("<｜tool▁calls▁end｜>",),
    json_body=False,
    control=True,
)
GEMMA_CALL: Final = ToolFormat(
    "gemma-call",
    calls.read_gemma,
    ("<start_function_call>",),
    ("<end_function_call>",),
    json_body=False,
    control=True,
)
TOOL_CODE: Final = ToolFormat(
    "tool-code",
    calls.read_json_or_python,
    ("```tool_code\n", "```json\n"),
    ("\n```",),
    bare=True,
    json_body=False,
)
HARMONY: Final = ToolFormat("harmony", calls.read_json, control=True, json_body=False)

_KNOWN: Final[tuple[tuple[str, ToolFormat], ...]] = (
    # The first whose pattern stands in the template is the format.
    (r"<\|channel\|>", HARMONY),
    (r"tool▁calls▁begin", DEEPSEEK),
    (r"<start_function_call>", GEMMA_CALL),
    (r"\[TOOL_CALLS\]", MISTRAL),
    (r"<tool_call>", TAGGED),
    (r"<\|tool_calls?\|>|functools", PIPED),
    (r"python_tag|python_start|ipython|<\|start_header_id\|>", LLAMA),
    (r"tool_code|<start_of_turn>", TOOL_CODE),
)


@lru_cache(maxsize=64)
def choose(template: str) -> ToolFormat:
    """The format that a template's words announce; plain JSON when they announce none."""
    return next((found for pattern, found in _KNOWN if re.search(pattern, template)), PLAIN)
