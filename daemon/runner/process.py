"""The daemon's side of a runner: one child process, spoken to in frames.

    runner = await Runner.spawn(log_path)         warm spare: llama.cpp imported, no model
    loaded = await runner.load(wire.Load(...))
    async with aclosing(runner.generate(wire.Generate(...))) as events: ...
    await runner.close()                          returns when the process is reaped

Methods may be called from many tasks at once; answers find their request by id.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Final, Self, TypeAlias, TypeVar

import msgspec

from ..logs import Log
from ..turns import Board
from . import wire
from .child import Child, how_it_ended, start
from .failures import AnswerNotRead, LoadFailed, RunnerCrashed, RunnerFailed, generate_failure
from .inbox import Inbox

log = Log("runner")

HELLO_LIMIT_S: Final = 30.0
EXIT_LIMIT_S: Final = 5.0
TERMINATE_LIMIT_S: Final = 2.0
KILL_LIMIT_S: Final = 10.0
_READ_BYTES: Final = 65_536  # memory for more would be mapped anew for every token

GenerateEvent: TypeAlias = wire.Evaluated | wire.Chunk | wire.Done
Answer = TypeVar("Answer", bound=msgspec.Struct)


class Runner:
    """One child process. Made by `spawn`; belongs to whoever spawned it until `close` returns."""

    def __init__(self, child: Child, connection: socket.socket) -> None:
        self._child = child
        self._connection = connection
        self._frames = wire.FrameReader()
        self._unsent = bytearray()
        self._inboxes: dict[int, Inbox] = {}
        self._last_id = 0
        self._broken: RunnerFailed | None = None
        self._closing = False
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int] = self._loop.create_future()
        self._reaper = asyncio.create_task(self._reap(), name=f"reap runner {child.pid}")

    # Life ---------------------------------------------------------------------------------------

    @classmethod
    async def spawn(cls, log_path: Path, board: Board | None = None) -> Self:
        """A running child that has imported llama.cpp. Its output is appended to `log_path`.

        Those that share a `board` take turns on the CPU.

        Call from the daemon's main thread: the child is killed when the *thread* that spawned it
        ends (PR_SET_PDEATHSIG). Raises RunnerFailed.
        """
        seat = board.sit() if board is not None else None
        try:
            ours, child = await start(log_path, seat)
        except BaseException:
            if seat is not None:
                seat.leave()
            raise
        runner = cls(child, ours)
        if seat is not None:
            runner.exited.add_done_callback(lambda _: seat.leave())
        hello = runner._open_inbox(wire.HELLO_ID)
        runner._loop.add_reader(ours.fileno(), runner._on_readable)
        try:
            await runner._answer(hello, wire.Hello, HELLO_LIMIT_S)
        except BaseException:
            await asyncio.shield(runner.close())
            raise
        finally:
            runner._close_inbox(wire.HELLO_ID)
        return runner

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether requests may still be sent."""
        return self._broken is None and not self._closing and not self.exited.done()

    def rss_bytes(self) -> int:
        """Resident memory of the child, 0 when it is gone or the system doesn't tell."""
        return self._child.rss_bytes()

    def cpu_s(self) -> float:
        """CPU time that the child has used, 0 when it is gone or the system doesn't tell."""
        return self._child.cpu_s()

    @property
    def busy(self) -> bool:
        """Whether anybody waits for an answer."""
        return bool(self._inboxes)

    def give_up(self, why: str) -> None:
        """Kills the child; all who wait are told that it `why`."""
        text, tail = f"the model's runner {why}", self._child.log_tail()
        self._break(RunnerCrashed(text, log_tail=tail))

    async def close(self) -> None:
        """Ends the child: ask, wait, terminate, kill, reap. Safe to call twice or at once."""
        if not self._closing:
            self._closing = True
            self._send(wire.Exit())
        steps = ((EXIT_LIMIT_S, signal.SIGTERM), (TERMINATE_LIMIT_S, signal.SIGKILL))
        for limit_s, then in steps:
            if await self._gone(0.0 if self._broken else limit_s):
                break
            self._child.signal(then)
        if not await self._gone(KILL_LIMIT_S):
            raise RunnerFailed(f"runner {self.pid} can't be killed; it hangs in the kernel")

    async def ended(self) -> bool:
        """Waits for the end of a child that is of no use any more; whether it came."""
        return await self._gone(KILL_LIMIT_S)

    def kill(self) -> None:
        """Ends the child at once; `exited` tells when it is reaped."""
        self._child.signal(signal.SIGKILL)

    # Requests -----------------------------------------------------------------------------------

    async def load(
        self, load: wire.Load, on_progress: Callable[[float], None] | None = None
    ) -> wire.Loaded:
        """Loads a model, with no time limit of its own. Raises LoadFailed or RunnerFailed.

        Cancelling it leaves the child loading: close the runner then.
        """
        request = msgspec.structs.replace(load, id=self._new_id())
        inbox = self._open_inbox(request.id)
        try:
            self._send(request)
            while True:
                match await inbox.read():
                    case wire.Progress() as progress:
                        if on_progress is not None:
                            on_progress(progress.fraction)
                    case wire.Loaded() as loaded:
                        return loaded
                    case wire.Failed() as failed:
                        raise LoadFailed(failed)
                    case other:
                        raise self._nonsense(other)
        finally:
            self._close_inbox(request.id)

    async def generate(
        self, request: wire.Generate, on_over: Callable[[], None] | None = None
    ) -> AsyncGenerator[GenerateEvent]:
        """`Evaluated`, then `Chunk`s, then one `Done`. The id of `request` is chosen here.

        Closing the iterator early cancels the request at its next token. Raises GenerateFailed
        for this request alone, RunnerFailed when the process is lost. `on_over` is called once the
        answer has ended or was cut, perhaps long before its reader comes to that.
        """
        request = msgspec.structs.replace(request, id=self._new_id())
        inbox = self._open_inbox(request.id, on_over)
        over = False
        try:
            self._send(request)
            while not over:
                match await inbox.read():
                    case wire.Evaluated() | wire.Chunk() as event:
                        yield event
                    case wire.Done() as done:
                        over = True
                        if done.reason == "cancelled":  # not by us: the process is to exit
                            raise RunnerFailed(f"runner {self.pid} was stopped")
                        yield done
                    case wire.Failed() as failed:
                        over = True
                        raise generate_failure(failed)
                    case other:
                        raise self._nonsense(other)
        finally:
            self._close_inbox(request.id)
            if not over:
                self._send(wire.Cancel(request.id))

    async def embed(self, request: wire.Embed) -> wire.Embedded:
        """One vector an input. Raises GenerateFailed or RunnerFailed."""
        request = msgspec.structs.replace(request, id=self._new_id())
        try:
            return await self._ask(request, wire.Embedded)
        except asyncio.CancelledError:
            self._send(wire.Cancel(request.id))  # many texts take long
            raise

    async def tokenize(
        self, text: str, *, add_special: bool = True, parse_special: bool = True
    ) -> list[int]:
        """Token ids of `text`."""
        request = wire.Tokenize(
            self._new_id(), text, add_special=add_special, parse_special=parse_special
        )
        return list((await self._ask(request, wire.Tokens)).tokens)

    async def count(self, text: str, images: tuple[bytes, ...] = (), marker: str = "") -> int:
        """How many tokens a prompt has, with `images` where `marker` stands."""
        request = wire.Tokenize(self._new_id(), text, images=images, image_marker=marker)
        return len((await self._ask(request, wire.Tokens)).tokens)

    async def detokenize(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """The text that `tokens` stand for, with control tokens if `special`."""
        request = wire.Detokenize(self._new_id(), tuple(tokens), special)
        return (await self._ask(request, wire.Text)).text

    async def ping(self, limit_s: float = 10.0) -> wire.Pong:
        """Proof that the child's loop turns. Raises RunnerFailed when it doesn't in `limit_s`."""
        return await self._ask(wire.Ping(self._new_id()), wire.Pong, limit_s)

    # Below: frames in, frames out, the end ----------------------------------------------------

    async def _ask(
        self,
        request: wire.Embed | wire.Tokenize | wire.Detokenize | wire.Ping,
        expected: type[Answer],
        limit_s: float | None = None,
    ) -> Answer:
        inbox = self._open_inbox(request.id)
        try:
            self._send(request)
            return await self._answer(inbox, expected, limit_s)
        finally:
            self._close_inbox(request.id)

    async def _answer(self, inbox: Inbox, expected: type[Answer], limit_s: float | None) -> Answer:
        try:
            async with asyncio.timeout(limit_s):
                answer = await inbox.read()
        except TimeoutError:
            raise RunnerFailed(f"runner {self.pid} gave no answer for {limit_s} s") from None
        if isinstance(answer, wire.Failed):
            raise generate_failure(answer)
        if not isinstance(answer, expected):
            raise self._nonsense(answer)
        return answer

    def _nonsense(self, answer: wire.FromRunner) -> RunnerFailed:
        failure = RunnerFailed(f"runner {self.pid} answered with {type(answer).__name__}")
        self._break(failure)
        return failure

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _open_inbox(self, request_id: int, on_over: Callable[[], None] | None = None) -> Inbox:
        inbox = Inbox(on_over)
        if self._broken is not None:
            inbox.fail(self._broken)
        elif self._closing:
            inbox.fail(RunnerFailed(f"runner {self.pid} is shutting down"))
        self._inboxes[request_id] = inbox
        return inbox

    def _close_inbox(self, request_id: int) -> None:
        self._inboxes.pop(request_id, None)

    def _send(self, message: wire.ToRunner) -> None:
        if self._broken is not None:
            return
        waiting = bool(self._unsent)
        self._unsent += wire.encode(message)
        if not waiting:
            self._send_on()
            if self._unsent:
                self._loop.add_writer(self._connection.fileno(), self._on_writable)

    def _on_writable(self) -> None:
        self._send_on()
        if not self._unsent:
            self._loop.remove_writer(self._connection.fileno())

    def _send_on(self) -> None:
        try:
            sent = self._connection.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._unsent.clear()
            return  # the reader sees the end too, and reports it once
        del self._unsent[:sent]

    def _on_readable(self) -> None:
        try:
            data = self._connection.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._connection.fileno())
            return  # the reaper says what became of it
        try:
            for body in self._frames.feed(data):
                self._deliver(wire.decode_from_runner(body))
        except wire.BrokenPeer as error:
            self._break(RunnerFailed(f"runner {self.pid} sent nonsense: {error}"))

    def _deliver(self, answer: wire.FromRunner) -> None:
        request_id = wire.HELLO_ID if isinstance(answer, wire.Hello) else answer.id
        inbox = self._inboxes.get(request_id)
        if inbox is None:  # cancelled meanwhile
            if isinstance(answer, wire.Done):
                log.info("answer_abandoned", pid=self.pid, tokens=answer.generated_tokens)
            return
        try:
            inbox.deliver(answer)
        except AnswerNotRead:
            self._close_inbox(request_id)
            self._send(wire.Cancel(request_id))
        if isinstance(answer, wire.Done):
            self._close_inbox(request_id)  # its reader may take long; nobody waits for the child

    def _break(self, failure: RunnerFailed) -> None:
        """Nothing more comes: every waiting request gets `failure`."""
        if self._broken is not None:
            return
        self._broken = failure
        self._loop.remove_reader(self._connection.fileno())
        self._loop.remove_writer(self._connection.fileno())
        self._connection.close()
        for inbox in self._inboxes.values():
            inbox.fail(failure)
        self._child.signal(signal.SIGKILL)

    async def _reap(self) -> None:
        status = await self._child.wait()
        while self._broken is None and self._drain():
            pass
        if self._closing:
            self._break(RunnerFailed(f"runner {self.pid} was stopped"))
        else:
            text = f"the model's runner {how_it_ended(status)}"
            tail = self._child.log_tail()
            self._break(RunnerCrashed(text, exit_status=status, log_tail=tail))
        self.exited.set_result(status)

    def _drain(self) -> bool:
        """Takes what the dead child still had sent; False at the end."""
        try:
            data = self._connection.recv(_READ_BYTES, socket.MSG_PEEK)
        except OSError:
            return False
        if data:
            self._on_readable()
        return bool(data)

    async def _gone(self, limit_s: float) -> bool:
        done, _ = await asyncio.wait((self._reaper,), timeout=limit_s)
        return bool(done)


async def collect(events: AsyncGenerator[GenerateEvent]) -> tuple[str, wire.Done]:
    """The whole text of an answer, and how it ended."""
    async with aclosing(events):
        text: list[str] = []
        async for event in events:
            if isinstance(event, wire.Chunk):
                text.append(event.text)
            elif isinstance(event, wire.Done):
                return "".join(text), event
    raise RunnerFailed("the answer ended before it was done")
