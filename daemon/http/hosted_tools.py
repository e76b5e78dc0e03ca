"""Tools that a provider runs itself, or has taught to its own models alone. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .fields import Fields, field_of
from .ollama_request import InvalidField


@dataclass(frozen=True, slots=True)
class Provider:
    """Whose API it is, and how the types of those tools begin."""

    name: str
    hosted: tuple[str, ...]

    def runs(self, kind: str) -> bool:
        return kind.startswith(self.hosted)


ANTHROPIC: Final = Provider(
    "Anthropic",
    ("web_search_", "web_fetch_", "code_execution_", "tool_search_tool_", "mcp_toolset"),
)
OPENAI: Final = Provider(
    "OpenAI",
    (
        "code_interpreter",
        "computer",
        "file_search",
        "image_generation",
        "mcp",
        "programmatic_tool_calling",
        "tool_search",
        "web_search",
    ),
)


def own_tools(offered: Sequence[Fields], provider: Provider, usual: str) -> list[Fields]:
    """The tools that the client runs; agents go on without the others.

    A tool without a type is of the `usual` one. Raises InvalidField where nothing is left.
    """
    own = [tool for tool in offered if not provider.runs(tool.text("type", usual))]
    if offered and not own:
        path, kind = _kind(offered[0])
        raise InvalidField(f"{path}: {kind!r} runs at {provider.name} only", path)
    return own


def unknown_tool(tool: Fields) -> InvalidField:
    """For a type of tool that is not served."""
    path, kind = _kind(tool)
    return InvalidField(f"{path}: tools of type {kind!r} are not supported", path)


def _kind(tool: Fields) -> tuple[str, str]:
    return field_of(tool.path("type")), tool.text("type")[:100]
