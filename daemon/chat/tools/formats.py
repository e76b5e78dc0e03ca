"""The notations in which models write tool calls, told from their chat templates."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from . import calls, gemma, tagged
from .calls import Call, Tools

Reader = Callable[[str, Tools], list[Call]]


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """How a block of calls looks.

    A block stands between one of `starts` and one of `ends` (or the end of the output). `bare`
    formats may also write calls without any mark, as the whole answer. `json_body` says that the
    block is JSON, whose arguments can be streamed. `control` says that the marks are control
    tokens, which the runner leaves out unless asked. `prefill` opens a block in a prompt, for a
    call that is required. `first` are marks that belong to the block which they begin.
    """

    name: str
    read: Reader
    starts: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    bare: bool = False
    json_body: bool = True
    control: bool = False
    prefill: str = ""
    first: tuple[str, ...] = ()


TAGGED: Final = ToolFormat(
    "tagged",
    tagged.read_tagged,
    ("<tool_call>",),
    ("</tool_call>",),
    bare=True,
    prefill="<tool_call>\n",
)
QWEN_XML: Final = replace(TAGGED, name="qwen-xml", first=("<function=",))  # often without its tag
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
    calls.read_piped,
    ("<|tool_call|>", "<|tool_calls|>", "functools["),
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
    gemma.read_gemma,
    ("<start_function_call>", "<|tool_call>"),
    ("<end_function_call>", "<tool_call|>"),
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
KIMI: Final = ToolFormat(
    "kimi",
    calls.read_kimi,
    ("<|tool_calls_section_begin|>",),
    ("<|tool_calls_section_end|>",),
    json_body=False,
    control=True,
)
INVOKED: Final = ToolFormat(
    "invoked",
    tagged.read_invokes,
    ("<minimax:tool_call>",),
    ("</minimax:tool_call>",),
    json_body=False,
    control=True,
)
NAMED: Final = ToolFormat("named", calls.read_mistral, bare=True, json_body=False)
LISTED: Final = ToolFormat(
    "listed",
    calls.read_json_or_python,
    ("<|tool_call_start|>", "<|START_ACTION|>", "<TOOLCALL>"),
    ("<|tool_call_end|>", "<|END_ACTION|>", "</TOOLCALL>"),
    bare=True,
    control=True,
)
SEED: Final = ToolFormat(
    "seed",
    tagged.read_tagged,
    ("<seed:tool_call>",),
    ("</seed:tool_call>",),
    control=True,
)
HARMONY: Final = ToolFormat("harmony", calls.read_json, control=True, json_body=False)

_KNOWN: Final[tuple[tuple[str, ToolFormat], ...]] = (
    # The first whose pattern stands in the template is the format.
    (r"<\|channel\|>", HARMONY),
    (r"tool▁calls▁begin", DEEPSEEK),
    (r"<start_function_call>|<\|tool_call>", GEMMA_CALL),
    (r"tool_calls_section_begin", KIMI),
    (r"minimax:tool_call", INVOKED),
    (r"<seed:tool_call>", SEED),
    (r"<\|tool_(list|call)_start\|>|START_ACTION|<TOOLCALL>", LISTED),
    (r"\[TOOL_CALLS\]", MISTRAL),
    (r"<function=", QWEN_XML),
    (r"<tool_call>", TAGGED),
    (r"<\|observation\|>", NAMED),  # GLM 4
    (r"<\|tool(_calls?)?\|>|functools", PIPED),
    (r"python_tag|python_start|ipython|<\|start_header_id\|>", LLAMA),
    (r"tool_code|<start_of_turn>", TOOL_CODE),
)


@lru_cache(maxsize=64)
def choose(template: str) -> ToolFormat:
    """The format that a template's words announce; plain JSON when they announce none."""
    return next((found for pattern, found in _KNOWN if re.search(pattern, template)), PLAIN)
