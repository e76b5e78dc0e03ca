"""`qm run NAME` on a terminal: a conversation, line by line."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from qm.store.errors import QmError

from . import slash
from .answer import Answer, TerminalPrinter, stream_answer, timings_text
from .client import Client, JsonObject
from .images import user_message_for
from .launch import ensure_daemon, running_daemon
from .progress import Spinner
from .session import Session
from .show import info_text, part_text
from .slash import SlashError
from .terminal import typing_unseen

if TYPE_CHECKING:
    from qm.daemon.settings import Settings

    from .editor import Editor

HISTORY_FILE = "history"
LEAVE_HINT = "Ctrl-D or /bye leaves."


def load_model(client: Client, session: Session) -> Session:
    """The session with what the model brings along; the model is loaded when this returns.

    The line editor is imported while the daemon loads. Raises Refused.
    """
    with Spinner(sys.stderr, f"loading {session.model}"):
        session = session.with_model(client.post("/api/show", {"model": session.model}))
        with client.stream("/api/chat", session.load_request()) as items:
            from . import editor  # noqa: F401

            for _ in items:
                pass
    return session


def chat(settings: Settings, client: Client, session: Session) -> None:
    """Talk until the user leaves. Raises Refused if the model can't be loaded."""
    session = load_model(client, session)
    from .editor import Editor

    editor = Editor(
        settings.home / HISTORY_FILE,
        lambda: _model_names(settings),
        keep_history=session.view.history,
    )
    repl = Repl(settings, session, editor)
    repl.print_inherited()
    while repl.turn():
        pass


class Repl:
    """The state of a conversation on the screen: the session, and the line it is typed on."""

    def __init__(self, settings: Settings, session: Session, editor: Editor) -> None:
        self._settings = settings
        self._session = session
        self._editor = editor
        self._commands: dict[str, Callable[[str], None]] = {
            "/set": self._set,
            "/show": self._show,
            "/load": self._load,
            "/save": self._save,
            "/clear": self._clear,
            "/list": self._list,
            "/help": self._help,
        }

    def turn(self) -> bool:
        """Read one message or command and answer it; False when the user leaves."""
        try:
            text = self._editor.read()
        except EOFError:
            return False
        except KeyboardInterrupt:
            print(LEAVE_HINT)
            return True
        try:
            return self._handle(text)
        except QmError as error:
            print(f"Error: {error.message}\n", file=sys.stderr)
        except KeyboardInterrupt:
            print()
        return True

    def print_inherited(self) -> None:
        """What was said before: the messages that the model itself begins with."""
        for message in self._session.inherited:
            if message.get("role") == "user":
                print(f">>> {message.get('content')}")
            elif message.get("role") == "assistant":
                print(f"{message.get('content')}\n")

    def _handle(self, text: str) -> bool:
        line = text.strip()
        if not line:
            return True
        word, _, rest = line.partition(" ")
        # A path to a picture starts with a slash, too.
        if not line.startswith("/") or "/" in word[1:]:
            self._say(slash.unquoted(text))
            return True
        command = slash.resolve(word)
        if command == "/bye":
            return False
        self._commands[command](rest.strip())
        return True

    def _say(self, text: str) -> None:
        """Ask and remember. A message that failed is forgotten, so that it can be sent again."""
        asked = self._session.said(user_message_for(self._session, text))
        answer = self._answer(asked)
        reply: dict[str, object] = {"role": "assistant", "content": answer.content}
        if answer.thinking:
            reply["thinking"] = answer.thinking
        if answer.content or not answer.interrupted:
            self._session = asked.said(reply)
        if answer.metrics and self._session.view.verbose:
            print(f"{timings_text(answer.metrics)}\n", file=sys.stderr)

    def _answer(self, session: Session) -> Answer:
        view = session.view
        columns = shutil.get_terminal_size().columns if view.wordwrap else None
        printer = TerminalPrinter(sys.stdout, columns, hide_thinking=view.hide_thinking)
        with typing_unseen():
            return stream_answer(self._client(), session, printer, Spinner(sys.stderr))

    def _client(self) -> Client:
        """A daemon that lives: the one that we began with may have ended since."""
        return ensure_daemon(self._settings)

    def _set(self, rest: str) -> None:
        self._session, words = slash.change(self._session, rest)
        self._editor.keep_history(self._session.view.history)
        print(f"{words}\n")

    def _show(self, rest: str) -> None:
        if rest not in slash.VIEWS:
            raise SlashError(f"/show what? One of {', '.join(slash.VIEWS)}")
        info = self._client().post("/api/show", {"model": self._session.model})
        print(f"{self._view(rest, info)}\n")

    def _view(self, name: str, info: JsonObject) -> str:
        if name == "info":
            return info_text(info)
        if name == "system" and self._session.system:
            return self._session.system
        text = part_text(info, name) or f"The model has no {name}."
        if name == "parameters" and self._session.options:
            own = slash.listing([(key, str(value)) for key, value in self._session.options.items()])
            text += f"\nIn this session:\n{own}"
        return text

    def _load(self, name: str) -> None:
        if not name:
            raise SlashError("/load what? Name a model; /list shows them")
        session = Session(name, view=self._session.view, keep_alive=self._session.keep_alive)
        self._session = load_model(self._client(), session)
        print(f"Talking to {name}.\n")
        self.print_inherited()

    def _save(self, name: str) -> None:
        if not name:
            raise SlashError("/save under which name?")
        with self._client().stream("/api/create", self._session.save_request(name)) as items:
            for _ in items:
                pass
        print(f"Saved as {name}; qm run {name} goes on from here.\n")

    def _clear(self, _rest: str) -> None:
        self._session = self._session.cleared()
        print("Forgot what was said.\n")

    def _list(self, _rest: str) -> None:
        print("\n".join(_model_names(self._settings)) + "\n")

    def _help(self, rest: str) -> None:
        print(f"{slash.help_text(rest.removeprefix('/'))}\n")


def _model_names(settings: Settings) -> list[str]:
    """Names of the models that are here, none if nobody can say."""
    try:
        models = running_daemon(settings).get("/api/tags", limit_s=1.0)["models"]
    except QmError:
        return []
    return [str(model["name"]).removesuffix(":latest") for model in models]
