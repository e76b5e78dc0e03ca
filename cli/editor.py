"""The line that the user types on: editing, history, completion, many-line messages."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from .slash import COMMANDS, SETTINGS, VIEWS, is_open

PROMPT = ">>> "
CONTINUED = "... "
PLACEHOLDER = "Send a message (/? for help)"

Names: TypeAlias = Callable[[], Iterable[str]]


class Editor:
    """Reads one message at a time; a message may have many lines."""

    def __init__(self, history_file: Path, model_names: Names, *, keep_history: bool) -> None:
        self._file = SwitchableHistory(history_file, keep_history)
        self._session: PromptSession[str] = PromptSession(
            history=self._file,
            completer=SlashCompleter(model_names),
            complete_while_typing=Condition(self._types_command),
            auto_suggest=AutoSuggestFromHistory(),
            key_bindings=_key_bindings(),
            multiline=Condition(lambda: is_open(self._session.default_buffer.text)),
            prompt_continuation=CONTINUED,
            placeholder=FormattedText([("fg:ansibrightblack", PLACEHOLDER)]),
            enable_suspend=True,
            reserve_space_for_menu=6,
            enable_open_in_editor=True,
        )

    def read(self) -> str:
        """What the user sent. Raises EOFError for Ctrl-D, KeyboardInterrupt for Ctrl-C."""
        return self._session.prompt(PROMPT)

    def keep_history(self, keep: bool) -> None:
        """Whether what is typed from now on is there the next time."""
        self._file.keep = keep

    def _types_command(self) -> bool:
        return self._session.default_buffer.text.startswith("/")


class SwitchableHistory(FileHistory):
    """A history file that only its owner may read; where it can't be used, none is kept."""

    def __init__(self, path: Path, keep: bool) -> None:
        self._path = path
        self.keep = keep
        super().__init__(str(path))

    def load_history_strings(self) -> Iterable[str]:
        """What was typed before, the newest first."""
        try:
            return list(super().load_history_strings())
        except OSError:
            self.keep = False
            return []

    def store_string(self, string: str) -> None:
        """Append to the file, which is made when there is something to keep."""
        if not self.keep:
            return
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600))
            super().store_string(string)
        except OSError:
            self.keep = False


class SlashCompleter(Completer):
    """Commands, what they take, and the names of models and parameters."""

    def __init__(self, model_names: Names) -> None:
        self._model_names = model_names

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """Nothing unless the text is a command."""
        text = document.text_before_cursor
        if not text.startswith("/"):
            return
        *before, last = text.split(" ")
        for word, meaning in self._choices(before).items():
            if word.startswith(last):
                yield Completion(word, -len(last), display_meta=meaning)

    def _choices(self, before: list[str]) -> dict[str, str]:
        match before:
            case []:
                return COMMANDS
            case ["/set"]:
                return SETTINGS
            case ["/show"]:
                return VIEWS
            case ["/load"]:
                return dict.fromkeys(self._model_names(), "")
            case ["/set", "parameter"]:
                return _parameters()
            case _:
                return {}


def _parameters() -> dict[str, str]:
    from qm.modelfiles.parameters import PARAMETERS

    return {name: parameter.doc for name, parameter in PARAMETERS.items()}


def _key_bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("c-j")
    @bindings.add("escape", "enter")
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @bindings.add("c-g")
    def _editor(event: KeyPressEvent) -> None:
        event.current_buffer.open_in_editor()

    return bindings
