"""How a model's weights were made, printed."""

from __future__ import annotations

from .client import JsonObject

_SHOWN = 19  # "sha256:" and twelve digits


def provenance_text(made: JsonObject | None) -> str:
    """Source, inputs and every step in order."""
    if not made:
        return "Its weights came as they are; nothing was done to them here."
    lines = []
    if repository := made.get("repository"):
        lines += [f"Source  {repository} at {made.get('commit', '')}"]
    if files := made.get("files"):
        width = max(map(len, files))
        lines += ["Files", *(f"  {name:<{width}}  {digest}" for name, digest in files.items())]
    for role, text in (made.get("sources") or {}).items():
        lines.append(f"{role.capitalize()}  {text}")
    if choice := made.get("choice"):
        lines.append(f"Chosen  {choice.get('type', '')}: {choice.get('reason', '')}")
    lines += [f"Note  {note}" for note in made.get("notes") or []]
    for number, step in enumerate(made.get("steps") or [], 1):
        lines += _step_lines(number, step, made)
    return "\n".join(lines)


def _step_lines(number: int, step: JsonObject, made: JsonObject) -> list[str]:
    parameters = " ".join(f"{key}={value}" for key, value in step["parameters"].items() if value)
    lines = [f"Step {number}  {step['kind']}  {parameters}".rstrip(), f"  with  {step['tool']}"]
    if step["kind"] != "convert":
        lines += [f"  {role}  {_told(value, made)}" for role, value in step["inputs"].items()]
    return [*lines, f"  made  {step['output']}"]


def _told(value: str, made: JsonObject) -> str:
    """An input: a blob's digest, or the number of the step that made it."""
    for number, step in enumerate(made.get("steps") or [], 1):
        if step["key"] == value:
            return f"step {number} ({step['output'][:_SHOWN]})"
    return value
