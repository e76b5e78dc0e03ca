"""The REPL's commands as values: what exists, and what `/set` makes of a session. No input/output.

Triple quotation marks around a value are taken off, as in a message.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from qm.store.errors import InvalidRequest

from .session import Session, parse_think

MARK = '"""'

COMMANDS = {
    "/set": "…  change how the session answers: /help set",
    "/show": "…  look at the model: /help show",
    "/load": "NAME  talk to another model, or to a saved session",
    "/save": "NAME  save this session as a model",
    "/clear": "forget what was said",
    "/list": "the models that are here",
    "/help": "[set|show|shortcuts]",
    "/bye": "leave; so does Ctrl-D",
}
ALIASES = {"/?": "/help", "/exit": "/bye", "/quit": "/bye"}

SETTINGS = {
    "parameter": "NAME VALUE…  a parameter of the model; without NAME: list them",
    "system": "TEXT  the system prompt; without TEXT: the model's own",
    "history": "keep what is typed for the next time",
    "nohistory": "don't",
    "wordwrap": "break lines between words",
    "nowordwrap": "let the terminal break lines",
    "format": "json | SCHEMA  answers in JSON, of this schema",
    "noformat": "answers in plain text",
    "verbose": "print timings after each answer",
    "quiet": "don't",
    "think": "[LEVEL]  let the model think first",
    "nothink": "don't",
}
VIEWS = {
    "info": "what the model is made of",
    "license": "its licence",
    "modelfile": "its Modelfile",
    "parameters": "its parameters, and those of this session",
    "system": "its system prompt, or this session's",
    "template": "its chat template",
}
SHORTCUTS = {
    "Ctrl-C": "stop the answer; clear the line",
    "Ctrl-D": "leave",
    "Ctrl-J, Alt-Enter": "new line; so does Enter after an opening " + MARK,
    "Ctrl-G": "write the message in $EDITOR",
    "Ctrl-L": "clear the screen",
    "Ctrl-R": "search what was typed before",
    "Ctrl-P, Ctrl-N, Up, Down": "go through what was typed before",
    "Ctrl-A, Ctrl-E": "start and end of the line",
    "Alt-B, Alt-F": "a word back or forward",
    "Ctrl-K, Ctrl-U, Ctrl-W": "delete to the end, to the start, a word",
    "Ctrl-Z": "put qm aside; fg brings it back",
    "Right, Ctrl-E": "take the grey suggestion",
}


class SlashError(InvalidRequest):
    """A command of the REPL can't be done as written."""

    code = "invalid_command"


Change: TypeAlias = tuple[Session, str]  # the new session, and a word about it


def resolve(word: str) -> str:
    """The command that `word` means. Raises SlashError."""
    name = ALIASES.get(word, word)
    if name not in COMMANDS:
        raise SlashError(f"unknown command {word}; /? lists them")
    return name


def is_open(text: str) -> bool:
    """Whether the typed text still waits for its closing marks."""
    body = text.lstrip()
    takes_mark = body.startswith((MARK, f"/set system {MARK}", f"/set format {MARK}"))
    return takes_mark and body.count(MARK) % 2 == 1


def unquoted(text: str) -> str:
    """The text without a pair of marks around it."""
    body = text.strip()
    if body.startswith(MARK):
        body = body.removeprefix(MARK).removesuffix(MARK).strip("\n")
    return body


def change(session: Session, rest: str) -> Change:
    """What `/set REST` does. Raises SlashError, OptionError."""
    name, _, value = rest.strip().partition(" ")
    if name not in _CHANGES:
        raise SlashError(f"/set {name or 'what?'}: must be one of {', '.join(SETTINGS)}")
    return _CHANGES[name](session, unquoted(value))


def help_text(topic: str) -> str:
    """The list behind `/help TOPIC`. Raises SlashError."""
    topics = {"": COMMANDS, "set": SETTINGS, "show": VIEWS, "shortcuts": SHORTCUTS}
    if topic not in topics:
        raise SlashError(f"no help on {topic}; there is: set, show, shortcuts")
    prefix = f"/{topic} " if topic in ("set", "show") else ""
    rows = [(f"{prefix}{name}", words) for name, words in topics[topic].items()]
    if not topic:
        rows.append((MARK, f"begin a message of many lines, up to the next {MARK}"))
    return listing(rows)


def listing(rows: list[tuple[str, str]]) -> str:
    """Names and their explanations, in two columns."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name:<{width}}  {words}" for name, words in rows)


def parameters_text() -> str:
    """Every parameter with its default and meaning."""
    from qm.modelfiles.parameters import PARAMETERS

    return listing(
        [
            (name, parameter.doc + ("" if parameter.default is None else f" ({parameter.default})"))
            for name, parameter in PARAMETERS.items()
        ]
    )


def parse_option(name: str, values: list[str]) -> object:
    """A parameter's value from text. Raises SlashError for an unknown name, OptionError."""
    from qm.modelfiles.parameters import PARAMETERS, parse_texts

    if name not in PARAMETERS:
        raise SlashError(f"unknown parameter {name!r}; /set parameter lists them")
    if not values:
        raise SlashError(f"{name} needs a value")
    value = parse_texts(name, values)
    return list(value) if isinstance(value, tuple) else value


def parse_format(text: str) -> dict[str, object] | str:
    """ "json" or a JSON schema. Raises SlashError."""
    if text == "json":
        return text
    try:
        schema = json.loads(text)
    except ValueError as error:
        raise SlashError(f'format must be "json" or a JSON schema: {error}') from error
    if not isinstance(schema, dict):
        raise SlashError('format must be "json" or a JSON schema, which is an object')
    return schema


def _parameter(session: Session, value: str) -> Change:
    name, *values = value.split()
    parsed = parse_option(name, values)
    return session.with_option(name, parsed), f"Set parameter {name} to {parsed}."


def _parameter_or_list(session: Session, value: str) -> Change:
    return _parameter(session, value) if value else (session, parameters_text())


def _system(session: Session, value: str) -> Change:
    words = "Set the system prompt." if value else "Back to the model's own system prompt."
    return replace(session, system=value), words


def _format(session: Session, value: str) -> Change:
    parsed = parse_format(value)
    kind = "JSON" if parsed == "json" else "JSON of this schema"
    return replace(session, format=parsed), f"Answers are {kind} now."


def _no_format(session: Session, _value: str) -> Change:
    return replace(session, format=None), "Answers are plain text now."


def _think(session: Session, value: str) -> Change:
    level = parse_think(value) if value else True
    return replace(session, think=level), f"Thinking: {value or 'on'}."


def _no_think(session: Session, _value: str) -> Change:
    return replace(session, think=False), "Thinking: off."


def _wordwrap(on: bool) -> Callable[[Session, str], Change]:
    words = "Lines break between words." if on else "The terminal breaks lines."
    return lambda session, _: (replace(session, view=replace(session.view, wordwrap=on)), words)


def _verbose(on: bool) -> Callable[[Session, str], Change]:
    words = "Timings follow each answer." if on else "No timings."
    return lambda session, _: (replace(session, view=replace(session.view, verbose=on)), words)


def _history(on: bool) -> Callable[[Session, str], Change]:
    words = "What is typed is kept." if on else "What is typed is not kept."
    return lambda session, _: (replace(session, view=replace(session.view, history=on)), words)


_CHANGES: dict[str, Callable[[Session, str], Change]] = {
    "parameter": _parameter_or_list,
    "system": _system,
    "history": _history(True),
    "nohistory": _history(False),
    "wordwrap": _wordwrap(True),
    "nowordwrap": _wordwrap(False),
    "format": _format,
    "noformat": _no_format,
    "verbose": _verbose(True),
    "quiet": _verbose(False),
    "think": _think,
    "nothink": _no_think,
}
