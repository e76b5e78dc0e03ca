"""Takes a model's output apart as it streams: reasoning, answer, tool calls."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from qm.modelfiles.reasoning import THINK, Tags, tags_of
from qm.modelfiles.template import Template

from .request import Delta, JsonObject, Request, joined
from .thinking import ThinkingSplitter
from .tools.calls import Tools
from .tools.formats import HARMONY, PLAIN, ToolFormat, choose
from .tools.harmony import HarmonyParser
from .tools.parser import ToolCallParser
from .tools.required import call_schema, or_call


class OutputParser(Protocol):
    """Text in, in any pieces; what it means out. `finish` gives what was held back.

    `called` says that a whole call has come, `reasons` that what comes next is reasoning. `lost`
    are calls that were told in part, and then could not be read.
    """

    @property
    def called(self) -> bool: ...

    @property
    def lost(self) -> int: ...

    @property
    def reasons(self) -> bool: ...

    def feed(self, text: str) -> Delta: ...

    def finish(self) -> Delta: ...


@dataclass(frozen=True, slots=True)
class OutputShape:
    """What to expect of one answer, decided before it begins.

    `forced` is the schema of the one call that the answer must be.
    """

    thinks: bool
    tags: Tags = THINK
    form: ToolFormat | None = None  # None: no tools were offered
    forced: JsonObject | None = None
    harmony: bool = False

    @property
    def prefill(self) -> str:
        """What to add to the prompt, so that a required call begins at once."""
        return self.form.prefill if self.form and self.forced and not self.thinks else ""

    @property
    def can_continue(self) -> bool:
        """Whether an answer may go on from a text: no call must follow, no channel be named."""
        return self.forced is None and not self.harmony

    def continued(self, prompt: str, begun: str) -> str:
        """The prompt with the beginning of an answer, which comes behind any reasoning."""
        opened = begun and prompt.rstrip().endswith(self.tags.start)
        return prompt + (f"\n{self.tags.end}\n\n" if opened else "") + begun

    @property
    def control_tokens(self) -> bool:
        """Whether marks that we look for are control tokens."""
        in_calls = self.form is not None and self.form.control
        return self.harmony or in_calls or (self.thinks and self.tags.control)

    def parser(self, request: Request, prompt: str) -> OutputParser | None:
        """A new parser; None when the output is nothing but text."""
        if self.harmony:
            return HarmonyParser()
        tools = None
        if self.form is not None:
            form = replace(PLAIN, bare=False) if self._is_bare_json else self.form
            form = PLAIN if self._may_be_call(request) and not form.bare else form
            opened = self.forced is not None
            tools = ToolCallParser(form, Tools.of(request.tools), opened=opened)
        opened_thinking = prompt.rstrip().endswith(self.tags.start)
        thinking = ThinkingSplitter(opened=opened_thinking, tags=self.tags) if self.thinks else None
        return _Both(thinking, tools) if thinking or tools else None

    def schema(self, request: Request) -> JsonObject | None:
        """What the answer is held to: a call, or what the request wants, or a call in its place."""
        wanted = request.format.json_schema if request.format else None
        if self.forced or wanted is None:
            return self.forced
        schema = {True: {}, False: {"enum": []}}[wanted] if isinstance(wanted, bool) else wanted
        return or_call(schema, request.tools) if self._may_be_call(request) else schema

    def _may_be_call(self, request: Request) -> bool:
        """Whether an answer that is held to a schema may be a call without marks instead."""
        held = request.format is not None and request.format.json_schema is not None
        return held and self.form is not None and not (self.forced or self.harmony)

    @property
    def _is_bare_json(self) -> bool:
        return self.forced is not None and not self.prefill


def output_shape(request: Request, template: Template | None, *, thinks: bool) -> OutputShape:
    """Raises UnknownTool and NoTools."""
    text = template.text if template else ""
    offered = bool(request.tools) and request.tool_choice.mode != "none" and not request.raw
    form = choose(text)
    forced = call_schema(request.tools, request.tool_choice)
    if form is HARMONY and not request.raw and forced is None:
        return OutputShape(thinks=thinks, harmony=True, form=form if offered else None)
    return OutputShape(thinks, tags_of(text), form if offered else None, forced)


class _Both:
    """Reasoning first, then what follows it is searched for calls."""

    def __init__(self, thinking: ThinkingSplitter | None, tools: ToolCallParser | None) -> None:
        self._thinking = thinking
        self._tools = tools

    @property
    def called(self) -> bool:
        return self._tools is not None and self._tools.called

    @property
    def lost(self) -> int:
        return self._tools.lost if self._tools else 0

    @property
    def reasons(self) -> bool:
        return self._thinking is not None and self._thinking.open

    def feed(self, text: str) -> Delta:
        if self._thinking is None:
            return self._content(text)
        split = self._thinking.feed(text)
        return replace(self._content(split.content), thinking=split.thinking)

    def finish(self) -> Delta:
        rest = self._thinking.finish() if self._thinking else None
        added = self._content(rest.content if rest else "")
        last = self._tools.finish() if self._tools else Delta()
        return joined([Delta(thinking=rest.thinking if rest else ""), added, last])

    def _content(self, text: str) -> Delta:
        if self._tools is None or not text:
            return Delta(content=text)
        return self._tools.feed(text)
