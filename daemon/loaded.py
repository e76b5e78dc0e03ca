"""A model in memory: what the supervisor knows of its process, and how it gets into it."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from qm.modelfiles.model import Model
from qm.store.errors import QmError
from qm.store.gguf import Header, read_header
from qm.store.layout import Layout, digest_of_file_name
from qm.store.leases import hold

from .facts import ModelFacts, model_facts
from .fit import estimated_costs
from .placing import DeviceUse, Fit
from .runner import wire
from .runner.process import Runner
from .runner.wire import Load, Loaded, Options
from .scheduler import Need, Resident

# Load options that, once set by a client, can't be met by a runner that was loaded otherwise.
_EXACT = ("kv_type", "use_mmap", "num_gpu", "main_gpu")
DRAFT_UBATCH = 512  # tokens that a draft model evaluates at once at most


class LoadBroken(QmError):
    """Something that nobody foresaw broke while a model was loaded; the log has the details."""

    code = "load_failed"


class LoadStalled(QmError):
    """The runner stopped making progress while it loaded the model."""

    code = "load_stalled"

    def __init__(self, name: str, limit_s: float) -> None:
        super().__init__(
            f"loading model '{name}' made no progress for {limit_s:g} s and was given up "
            "(QM_LOAD_TIMEOUT)"
        )


@dataclass(frozen=True, slots=True)
class DeviceBytes:
    """What a model takes of one device."""

    device: str
    predicted_bytes: int
    actual_bytes: int | None


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A row of `qm ps`. `expires_at` is in seconds since the epoch, infinite for never."""

    name: str
    model: Model
    state: str  # loading, ready or unloading
    size_bytes: int
    size_vram_bytes: int
    context_length: int
    expires_at: float
    pid: int | None
    predicted_bytes: int
    actual_bytes: int | None  # None until it is loaded, or where the runner does not report it
    n_users: int
    reason: str  # why it is placed as it is
    devices: tuple[DeviceBytes, ...] = ()  # predicted, and actual once it is loaded


@dataclass(slots=True)
class Process:
    """One runner with its model, from the decision to load it until it is reaped."""

    model: Model  # the one that was used last, of all that share these files
    fit: Fit
    models: dict[str, Model]  # all that were used with it, by name
    kv_directory: Path  # where its conversations are kept once it is unloaded
    kv_budget_bytes: int
    speculate: wire.Speculate = wire.Speculate.AUTO
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    runner: Runner | None = None
    loaded: Loaded | None = None
    loading: asyncio.Task[None] | None = None
    retries: tuple[str, ...] = ()  # what failed for memory, and what was changed
    files: ExitStack = field(default_factory=ExitStack)  # the lease on its blobs

    def hold_files(self, layout: Layout) -> None:
        """Keeps its blobs from being collected until it is gone. Waits for the store's lock."""
        model = self.model
        paths = (*model.weights, *model.projectors, *model.adapters, model.draft)
        names = (path.name for path in paths if path is not None)
        digests = [digest for name in names if (digest := digest_of_file_name(name)) is not None]
        if digests:
            self.files.enter_context(hold(layout, digests))
        if self.gone.is_set():  # unloaded while we waited for the store
            self.files.close()

    def called(self, which: str) -> bool:
        """Whether `which` is the name or digest of a model that was used with it."""
        known = {name.casefold() for name in self.models}
        digests = {model.digest for model in self.models.values()}
        return which.casefold() in known or which in digests

    @property
    def actual_bytes(self) -> int | None:
        """What llama.cpp reports to have allocated; None where it doesn't."""
        if self.loaded is None or not self.loaded.memory:
            return None
        return sum(map(_total, self.loaded.memory))

    @property
    def uses(self) -> tuple[DeviceUse, ...]:
        """What each device holds of it, the host first: as reported, before that as predicted."""
        actual = {one.device: one for one in self.loaded.memory} if self.loaded else {}
        return tuple(
            replace(
                use,
                weights_bytes=actual[use.device].weights_bytes,
                kv_bytes=actual[use.device].kv_bytes,
                compute_bytes=actual[use.device].compute_bytes,
            )
            if use.device in actual
            else use
            for use in self.fit.uses
        )

    @property
    def told_reason(self) -> str:
        """Why it is placed as it is, and what was tried before."""
        return "; ".join((self.fit.reason, *self.retries))

    def devices(self) -> tuple[DeviceBytes, ...]:
        """Predicted and actual, by device."""
        actual = {one.device: _total(one) for one in self.loaded.memory} if self.loaded else {}
        predicted = {use.device: use.total_bytes for use in self.fit.uses}
        names = dict.fromkeys((*predicted, *actual))
        return tuple(DeviceBytes(one, predicted.get(one, 0), actual.get(one)) for one in names)

    def row(self, resident: Resident, now: float) -> LoadedModel:
        """What `qm ps` tells; `now` is of the clock that the scheduler goes by."""
        actual = self.actual_bytes
        n_ctx = self.loaded.n_ctx if self.loaded else self.fit.placement.n_ctx
        since = now if resident.users else resident.used_s
        return LoadedModel(
            name=str(self.model.name),
            model=self.model,
            state=resident.state.value,
            size_bytes=actual or self.fit.predicted_bytes,
            size_vram_bytes=sum(use.total_bytes for use in self.uses[1:]),
            context_length=n_ctx,
            expires_at=time.time() + since + resident.keep_alive_s - now,
            pid=self.runner.pid if self.runner else None,
            predicted_bytes=self.fit.predicted_bytes,
            actual_bytes=actual,
            n_users=len(resident.users),
            reason=self.told_reason,
            devices=self.devices(),
        )

    async def load(self, runner: Runner, limit_s: float) -> None:
        """Load the model into `runner`; a pause of `limit_s` in its progress raises LoadStalled."""
        self.runner = runner
        limit = None if limit_s == math.inf else limit_s
        try:
            async with asyncio.timeout(limit) as stall:

                def on_progress(_fraction: float) -> None:
                    if limit is not None:
                        stall.reschedule(asyncio.get_running_loop().time() + limit)

                self.loaded = await runner.load(self._frame(), on_progress)
        except TimeoutError:
            raise LoadStalled(str(self.model.name), limit_s) from None

    async def end(self) -> None:
        """Give up a load that still runs, then end and reap the runner. Raises RunnerFailed."""
        if self.loading is not None and not self.loading.done():
            self.loading.cancel()
            await asyncio.wait((self.loading,))
        if self.runner is not None:
            await self.runner.close()

    def _frame(self) -> Load:
        model = self.model
        return Load(
            id=0,  # numbered by the runner's owner
            weights=tuple(map(str, model.weights)),
            placement=self.fit.placement,
            adapters=tuple(map(str, model.adapters)),
            projector=str(model.projectors[0]) if model.projectors else None,
            draft=str(model.draft) if model.draft else None,
            embedding="embedding" in model.capabilities,
            kv_directory=str(self.kv_directory),
            kv_budget_bytes=self.kv_budget_bytes,
            model_digest=model.weights_digest,
            speculate=self.speculate,
        )


def runner_key(model: Model) -> str:
    """What lets two models share a runner: the same files, whatever their prompts and options."""
    extra = [*model.adapters, *model.projectors, *([model.draft] if model.draft else [])]
    return "|".join([model.weights_digest, *map(str, extra)])


def device_needs(fit: Fit) -> tuple[tuple[str, int], ...]:
    """What it needs of each GPU; of a remote one all, since that serves one runner at a time."""
    remote = bool(fit.placement.rpc_servers)
    return tuple(
        (use.device, use.room_bytes if remote else use.total_bytes) for use in fit.uses[1:]
    )


def exact_options(
    wishes: Options, n_layers: int, kv_types: tuple[str, ...], *, has_gpus: bool
) -> tuple[tuple[str, object], ...]:
    """Load options that a client set and that a runner must have been loaded with.

    Not those that say what holds anyway: clients send their defaults with every request, and layers
    on GPUs mean nothing where there are none.
    """
    named = {name: getattr(wishes, name) for name in _EXACT}
    if wishes.num_gpu is not None:
        named["num_gpu"] = min(wishes.num_gpu, n_layers + 1)  # all of them and the output
    usual: dict[str, object] = {"use_mmap": True, "main_gpu": 0, "num_gpu": -1}
    if len(kv_types) == 1:
        usual["kv_type"] = kv_types[0]
    dropped = () if has_gpus else ("num_gpu", "main_gpu")
    return tuple(
        (name, value)
        for name, value in named.items()
        if value is not None and value != usual.get(name) and name not in dropped
    )


def need_of(placed: Fit, wishes: Options, exact: tuple[tuple[str, object], ...]) -> Need:
    """What the scheduler is asked for: a context that nobody named is as large as it was placed."""
    automatic = not wishes.num_ctx
    n_ctx = placed.placement.n_ctx if automatic else placed.target_n_ctx
    return Need(n_ctx, placed.needed_bytes, exact, device_needs(placed), automatic)


def facts_of(model: Model) -> ModelFacts:
    """What placement needs to know of all its files. Raises OSError, GgufInvalid."""
    files = (model.weights, model.adapters, model.projectors, model.draft)
    return _facts(_Files(*files, model.header))


@dataclass(frozen=True, slots=True)
class _Files:
    """Blobs, which never change; `header` is that of the first."""

    weights: tuple[Path, ...]
    adapters: tuple[Path, ...]
    projectors: tuple[Path, ...]
    draft: Path | None
    header: Header = field(compare=False)


@lru_cache(maxsize=32)
def _facts(files: _Files) -> ModelFacts:
    """Every request asks for them, and a header has hundreds of tensors to look at."""
    draft = _header(files.draft) if files.draft else None
    extra_bytes = sum(path.stat().st_size for path in files.adapters)
    compute = estimated_costs(model_facts(draft), DRAFT_UBATCH, 1).host_bytes if draft else 0
    return model_facts(
        files.header,
        extra_bytes=extra_bytes,
        projector_bytes=sum(path.stat().st_size for path in files.projectors[:1]),
        draft=draft,
        draft_compute_bytes=compute,
        parts=map(_header, files.weights[1:]),
    )


@lru_cache(maxsize=64)
def _header(path: Path) -> Header:
    """Of a blob, which never changes."""
    return read_header(path)


def _total(one: wire.DeviceBytes) -> int:
    return one.weights_bytes + one.kv_bytes + one.compute_bytes
