"""The words that placement is spoken of in: rooms, wants, costs, and the answer."""

from __future__ import annotations

from dataclasses import dataclass, field

from qm.store.errors import InvalidRequest, QmError

from .devices import RemoteDevice
from .runner.wire import Placement

RUNNER_BYTES = 48 << 20  # a runner's process with llama.cpp, before any model


class DoesNotFit(QmError):
    """The model needs more memory than the machine can give; the message has the account."""

    code = "out_of_memory"


class NoSuchDevice(InvalidRequest):
    """`main_gpu` names a GPU that isn't there."""

    code = "no_such_device"


@dataclass(frozen=True, slots=True)
class Room:
    """One GPU, local or remote: what a model may take there, of what is free.

    One that `shares_host` has no memory of its own: what it takes is the host's. One that
    `maps_files` computes on the pages of a mapped model file.
    """

    name: str
    room_bytes: int
    free_bytes: int = 0
    remote: RemoteDevice | None = None
    shares_host: bool = False
    maps_files: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """What holds where the request's options say nothing.

    `context_length` 0 is as much as fits, up to what the model was trained for; `shares_memory`
    keeps room for other models then. `kv_types` are allowed, the best first; the others are for
    when memory is short.
    """

    context_length: int
    n_parallel: int
    kv_types: tuple[str, ...] = ("f16",)
    least_context: int = 4096
    shares_memory: bool = True


@dataclass(frozen=True, slots=True)
class Costs:
    """What evaluation takes beside weights and cache: a fixed part, and one a token of context.

    `kv_scale` corrects the cache's size, `kv_fixed_bytes` is what it holds whatever the context.
    """

    host_bytes: int
    device_bytes: int
    token_bytes: int
    kv_scale: float = 1.0


@dataclass(frozen=True, slots=True)
class DeviceUse:
    """What a placement takes of one device. `room_bytes` is what it may take."""

    device: str
    weights_bytes: int = 0
    kv_bytes: int = 0
    compute_bytes: int = 0
    room_bytes: int = 0
    free_bytes: int = 0
    n_layers: int = 0
    shares_host: bool = False
    maps_files: bool = False

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.kv_bytes + self.compute_bytes


def host_needs(uses: tuple[DeviceUse, ...]) -> int:
    """What the host must have for these, itself the first; GPUs may share its memory."""
    shared = sum(use.total_bytes for use in uses[1:] if use.shares_host)
    return uses[0].total_bytes + shared + RUNNER_BYTES


@dataclass(frozen=True, slots=True)
class Fit:
    """A placement, what it is predicted to take of each device, and why it is as it is.

    `uses[0]` is the host. `target_n_ctx` is the context that was wanted; `placement.n_ctx` is less
    only where nobody asked for a number and memory is short. `mapped_bytes` is what llama.cpp maps
    of the file for the host's weights; it may hold pages that nobody reads.
    """

    placement: Placement
    target_n_ctx: int
    uses: tuple[DeviceUse, ...]
    n_layers: int
    n_host_experts: int
    companions_on_gpu: bool
    reason: str
    needed_bytes: int  # what the host must have for it
    head_on_host: bool = False  # the output's table stays there, though its layer is on a GPU
    mapped_bytes: int = 0
    measured: bool = False  # by llama.cpp's own dry run
    rank: tuple[int, ...] = field(default=(), repr=False)

    @property
    def n_gpu_layers(self) -> int:
        """Layers that are on GPUs whole."""
        return self.placement.n_gpu_layers - int(self.head_on_host)

    @property
    def weights_bytes(self) -> int:
        return sum(use.weights_bytes for use in self.uses)

    @property
    def kv_bytes(self) -> int:
        return sum(use.kv_bytes for use in self.uses)

    @property
    def compute_bytes(self) -> int:
        return sum(use.compute_bytes for use in self.uses)

    @property
    def predicted_bytes(self) -> int:
        """What llama.cpp should report to have allocated."""
        return sum(use.total_bytes for use in self.uses)

    @property
    def device_bytes(self) -> int:
        """The part of it that is not the host's."""
        return sum(use.total_bytes for use in self.uses[1:])


def mib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):,.0f} MiB"
