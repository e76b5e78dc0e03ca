"""Gets a model into a runner; what fails for memory is tried again with less."""

from __future__ import annotations

from qm.store.errors import QmError

from . import logs
from .loaded import Process
from .planner import Planner
from .questions import Question
from .retry import MAX_RETRIES, described, smaller, told, worth_retrying
from .runner.failures import LoadFailed, RunnerCrashed
from .spare import Spare

_log = logs.Log("loader")


class LoadGivenUp(QmError):
    """Not even smaller loads worked; the message has all that was tried, and why each failed."""

    code = "out_of_memory"

    def __init__(self, process: Process, error: QmError) -> None:
        tried = "; ".join((*process.retries, described(process.fit)))
        super().__init__(
            f"loading model '{process.model.name}' failed: {error.message.splitlines()[0]}. "
            f"Tried: {tried}. {process.fit.reason}"
        )


class Loader:
    """Loads processes into spares, within the limit for a load that makes no progress."""

    def __init__(self, spare: Spare, planner: Planner, limit_s: float) -> None:
        self._spare = spare
        self._planner = planner
        self._limit_s = limit_s

    async def load(self, process: Process, question: Question) -> None:
        """Loads it as it fits, or smaller, a few times.

        Raises LoadGivenUp with the whole account, or what the only try failed with.
        """
        for _ in range(MAX_RETRIES):
            try:
                await process.load(await self._spare.take(), self._limit_s)
            except (LoadFailed, RunnerCrashed) as error:
                if not worth_retrying(error, process.fit):
                    raise
                question = await self._less(process, question, error)
            else:
                self._planner.fell_short(question.spared)
                return
        try:
            await process.load(await self._spare.take(), self._limit_s)
        except (LoadFailed, RunnerCrashed) as error:
            raise LoadGivenUp(process, error) from error
        self._planner.fell_short(question.spared)

    async def _less(self, process: Process, question: Question, error: QmError) -> Question:
        """Fits `process` anew, smaller unless a lost device explains the failure.

        Raises `error` when nothing smaller is possible.
        """
        failed = process.fit
        assert process.runner is not None
        await process.runner.close()
        self._planner.forget_devices()
        try:
            process.fit = await self._planner.plan(question)
            if process.fit.placement == failed.placement:
                question = smaller(question, failed)
                process.fit = await self._planner.plan(question)
        except QmError as refusal:
            _log.warning("no_smaller_load", model=process.model.name, error=refusal)
            if process.retries:
                raise LoadGivenUp(process, error) from refusal
            raise error from refusal
        process.retries = (*process.retries, told(failed, error, process.fit))
        _log.warning("load_retried", model=process.model.name, why=process.retries[-1])
        return question
