"""The marks that models put around their reasoning, told from their chat templates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Tags:
    """What stands around a model's reasoning; `control` says that it is control tokens.

    `answer` stands around the answer behind it, where a model has tags for that as well.
    """

    start: str
    end: str
    control: bool = False
    answer: tuple[str, str] | None = None


THINK: Final = Tags("<think>", "</think>")
_GRANITE: Final = Tags(THINK.start, THINK.end, answer=("<response>", "</response>"))
_OTHERS: Final = (
    Tags("[THINK]", "[/THINK]", control=True),
    Tags("<|START_THINKING|>", "<|END_THINKING|>", control=True),
    Tags("<seed:think>", "</seed:think>", control=True),
    Tags("<|channel>thought", "<channel|>", control=True),  # Gemma 4
    Tags("◁think▷", "◁/think▷"),
    Tags("<thinking>", "</thinking>"),
    Tags("<reasoning>", "</reasoning>"),
    Tags("<thought>", "</thought>"),
)


def tags_of(template: str) -> Tags:
    """The tags that a template's words announce; `<think>` when they announce none."""
    if THINK.start in template or THINK.end in template:
        return _GRANITE if "<response>" in template else THINK
    return next((tags for tags in _OTHERS if tags.start in template), THINK)


def has_marks(template: str) -> bool:
    """Whether a template's words announce reasoning, in tags or in channels."""
    marks = (THINK.start, *(tags.start for tags in _OTHERS), "<|channel|>analysis")
    return any(mark in template for mark in marks)
