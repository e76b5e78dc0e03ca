"""What a model can be put on: devices as ggml's registry names them, and what was measured there.

Values that cross from the child processes that hold llama.cpp to the daemon, which never does.
"""

from __future__ import annotations

import msgspec

CPU = "CPU"  # what every device that is no GPU counts as: the host's own memory
PROJECTOR = "projector"  # the buffers of a projector, told apart from the model's
METAL = "MTL"  # what the registry calls Apple's
DRAFT = "draft"  # those of a draft model, likewise
RPC = "RPC"  # the registry's name of devices on other machines


class RemoteDevice(msgspec.Struct, frozen=True):
    """A device of a worker. `name` is what qm calls it; `buffer` what ggml does, in any process."""

    name: str
    endpoint: str
    buffer: str


class Device(msgspec.Struct, frozen=True):
    """One device of ggml's backend registry, with its memory as of now.

    `name` is what placements use; `buffer` what llama.cpp calls its memory. `endpoint` is set for
    a device of another machine: the worker's address as the settings write it.
    """

    name: str
    description: str
    kind: str  # gpu, igpu, cpu or accel
    backend: str
    free_bytes: int
    total_bytes: int
    buffer: str = ""
    endpoint: str = ""

    @property
    def remote(self) -> RemoteDevice | None:
        """How a runner finds it, where it is another machine's."""
        return RemoteDevice(self.name, self.endpoint, self.buffer) if self.endpoint else None

    @property
    def shares_host(self) -> bool:
        """Whether its memory is the host's: graphics in the processor, all of Apple's."""
        return self.kind == "igpu" or self.backend == METAL

    @property
    def maps_files(self) -> bool:
        """Whether it computes on the pages of a mapped file (ggml's `buffer_from_host_ptr`)."""
        return self.backend == METAL

    @property
    def holds_layers(self) -> bool:
        """Whether layers can go there; what isn't a GPU computes in the host's memory."""
        return self.kind in ("gpu", "igpu") and self.total_bytes > 0


class Devices(msgspec.Struct, frozen=True):
    """All devices, and which of the remote ones that were asked for are missing, and why.

    `backends` are those that the installed llama.cpp has, whether they found a device or not.
    """

    devices: tuple[Device, ...]
    missing: tuple[tuple[str, str], ...] = ()  # endpoint, reason
    supports_offload: bool = False
    binding: str = ""  # version of llama-cpp-python
    backends: tuple[str, ...] = ()

    @property
    def gpus(self) -> tuple[Device, ...]:
        return tuple(one for one in self.devices if one.holds_layers)


class BufferBytes(msgspec.Struct, frozen=True):
    """What llama.cpp accounts to one kind of buffer: `CPU`, `CPU_REPACK`, `CUDA0`, `CUDA_Host`…

    `device` is the name of the device that holds it, `part` whose it is: of the model itself, of
    its projector, or of its draft model.
    """

    buffer: str
    device: str
    weights_bytes: int = 0
    kv_bytes: int = 0
    compute_bytes: int = 0
    part: str = ""
