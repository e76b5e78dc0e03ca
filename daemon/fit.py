"""Where a model goes and what that takes: facts, machine and wishes in, a placement out.

Pure. What is maximised, in this order: the context that is the least wanted, layers on GPUs,
experts on GPUs, companions (projector, draft) on a GPU, the better KV type, and then context
again, up to what is wanted. Nothing in a `Fit` could be improved alone and still fit; more memory
never makes one worse. Layers fill the devices from the last one back, as llama.cpp splits them, so
the output goes first; where more layers have room without the table that makes logits, which can be
larger than many of them, that table stays with the host.

Where nobody names a context, it is the largest that costs nothing else, up to what the model was
trained for and within a share of the memory, so that several models can live beside each other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .devices import CPU
from .facts import ModelFacts
from .hardware import Machine
from .packing import CONTEXT_STEP, Packing, Split, largest
from .placing import (
    RUNNER_BYTES,
    Costs,
    DeviceUse,
    DoesNotFit,
    Fit,
    NoSuchDevice,
    Room,
    Wanted,
    host_needs,
    mib,
)
from .runner.wire import Options, Placement, TensorOverride

MIN_CONTEXT = 4  # as Ollama clamps num_ctx
LEAST_AUTOMATIC_CONTEXT = 512  # where nobody asked for a number, less than this is no use
_ACTIVATIONS = 16  # rows as wide as the embedding that one token's evaluation holds, at most
_FLOAT_BYTES = 4
_MASK_BYTES = 2  # of one token's attention to one place of the context
_MAX_UBATCH = 512
_LONGEST_INPUT = 8192  # of models that need an input in one piece; buffers grow with it
_SPARE = 4  # sequences that keep finished conversations, as `Placement.n_spare`
_HOST_SHARE = 8  # the cache of a context that nobody asked for may grow to an eighth of the host's
_GPU_SHARE = 4  # memory, and to a quarter of what the GPUs have free
HEAD = r"^(output|token_embd)\.weight$"  # the second where input and output share a table
EXPERTS_OF = r"blk\.({})\.ffn_.*_(ch|)exps"


def estimated_costs(facts: ModelFacts, ubatch: int, n_parallel: int) -> Costs:
    """Activations of a micro-batch and the logits of each sequence's last token."""
    activations = _FLOAT_BYTES * ubatch * _ACTIVATIONS * facts.n_embd
    fixed = activations + logits_bytes(facts, n_parallel)
    return Costs(fixed, fixed, _MASK_BYTES * ubatch)


def logits_bytes(facts: ModelFacts, n_parallel: int) -> int:
    """What the logits of one step take at most."""
    return _FLOAT_BYTES * (n_parallel + _SPARE) * facts.n_vocab


def fit(
    facts: ModelFacts,
    machine: Machine,
    wishes: Options,
    wanted: Wanted,
    *,
    rooms: tuple[Room, ...] = (),
    costs: Costs | None = None,
    headless_costs: Costs | None = None,
) -> Fit:
    """The best placement for these wishes. Raises DoesNotFit with the numbers, NoSuchDevice.

    `headless_costs` are those of a placement that leaves the output's table to the host.
    """
    n_parallel = wishes.num_parallel or wanted.n_parallel
    costs = costs or estimated_costs(facts, n_ubatch(facts, wishes, wanted), n_parallel)
    ordered = _in_order(rooms, wishes)
    own = tuple(room for room in ordered if not room.shares_host)
    for usable in dict.fromkeys((ordered, own)):  # on GPUs that share it buffers cost more of it
        packing = Packing(facts, costs, usable, machine.available_bytes)
        headless = replace(packing, costs=headless_costs or costs, head_on_host=True)
        case = _Case(packing, headless, machine, wishes, wanted)
        found = [best for kv_type in case.kv_types if (best := case.best(kv_type))]
        if found:
            return case.fitted(max(found, key=lambda one: one.rank))
    raise case.refusal()


def n_ubatch(facts: ModelFacts, wishes: Options, wanted: Wanted) -> int:
    """How many tokens are evaluated at once at most."""
    most = _MAX_UBATCH
    if facts.sees_ahead:
        most = max(most, min(target_context(facts, wishes, wanted), _LONGEST_INPUT))
    return min(wishes.num_batch or most, most)


def target_context(facts: ModelFacts, wishes: Options, wanted: Wanted) -> int:
    """How many tokens of context are wanted."""
    asked = wishes.num_ctx if wishes.num_ctx and wishes.num_ctx > 0 else wanted.context_length
    most = facts.n_ctx_train or asked or wanted.least_context
    return max(MIN_CONTEXT, min(asked or most, most))


@dataclass(frozen=True, slots=True)
class _Case:
    """One question to `fit`."""

    packing: Packing
    headless: Packing  # the same with the output's table on the host
    machine: Machine
    wishes: Options
    wanted: Wanted

    @property
    def facts(self) -> ModelFacts:
        return self.packing.facts

    # What is asked ----------------------------------------------------------------------------

    @property
    def asked(self) -> bool:
        """Whether somebody named a context; then it is never made smaller silently."""
        return bool(self.wishes.num_ctx and self.wishes.num_ctx > 0)

    @property
    def automatic(self) -> bool:
        """Whether the context is ours to choose."""
        return not self.asked and not self.wanted.context_length

    @property
    def target(self) -> int:
        return target_context(self.facts, self.wishes, self.wanted)

    @property
    def floor(self) -> int:
        """The context that layers on GPUs must not cost."""
        return min(self.target, self.wanted.least_context) if self.automatic else self.target

    @property
    def kv_types(self) -> tuple[str, ...]:
        return (self.wishes.kv_type,) if self.wishes.kv_type else self.wanted.kv_types

    @property
    def most_layers(self) -> int:
        """All layers and the output, or as many as were asked for."""
        most = len(self.facts.layers) + 1 if self.packing.rooms else 0
        asked = self.wishes.num_gpu
        return most if asked is None or asked < 0 else min(asked, most)

    # Finding ----------------------------------------------------------------------------------

    def best(self, kv_type: str) -> Split | None:
        """The best split with this KV type; None when the host can't hold any."""
        floor = largest(
            self._steps(min(LEAST_AUTOMATIC_CONTEXT, self.floor), self.floor),
            lambda n_ctx: self._fits_host(self._split(n_ctx, kv_type)),
        )
        if floor is None:
            return None
        split = self._split(floor, kv_type)
        if floor == self.floor and floor < self.target:
            split = self._grown(split)
        return replace(split, rank=self._rank(split))

    def _grown(self, least: Split) -> Split:
        """With as much more context as costs nothing else."""
        goal = self._rank(least)[1:-1]

        def costs_nothing(n_ctx: int) -> bool:
            split = self._split(n_ctx, least.kv_type)
            better = self._rank(split)[1:-1] >= goal
            return better and self._fits_host(split) and self._leaves_room(split)

        found = largest(self._steps(least.n_ctx, self.target), costs_nothing)
        return self._split(found or least.n_ctx, least.kv_type)

    def _steps(self, least: int, most: int) -> list[int]:
        """Contexts worth trying; only the most where somebody asked for it."""
        if self.asked:
            return [most]
        whole = range(-(-least // CONTEXT_STEP) * CONTEXT_STEP, most, CONTEXT_STEP)
        return [*whole, most]

    def _rank(self, split: Split) -> tuple[int, ...]:
        """What makes one split better than another, the weightiest first."""
        kinds = self.kv_types
        return (
            min(split.n_ctx, self.floor),
            split.n_whole,
            -int(split.head_on_host),
            -split.n_host_experts,
            int(split.companions_on_gpu),
            -kinds.index(split.kv_type),
            split.n_ctx,
        )

    def _split(self, n_ctx: int, kv_type: str) -> Split:
        """The best with this context: with the output's table on a GPU, or without."""
        whole = self.packing.most(self.most_layers, n_ctx, kv_type)
        most = min(self.most_layers + 1, len(self.facts.layers) + 1)
        least = whole.n_layers + 2  # llama.cpp counts the output, so it takes two to have one more
        if least > most or not self.headless.has_room(least, n_ctx, kv_type):
            return whole
        headless = self.headless.most(most, n_ctx, kv_type)
        return headless if self._fits_host(headless) else whole

    def _uses(self, split: Split) -> tuple[DeviceUse, ...]:
        return (self.headless if split.head_on_host else self.packing).uses(split)

    def _fits_host(self, split: Split) -> bool:
        """Companions pass through the host's memory on their way to a GPU, and count there too."""
        needed = host_needs(self._uses(split))
        if split.companions_on_gpu:
            needed += self.packing.companions(split.n_ctx, split.kv_type)
        return needed <= self.machine.available_bytes

    def _leaves_room(self, split: Split) -> bool:
        """Whether its cache keeps to the shares that leave room for other models."""
        if not self.wanted.shares_memory:
            return True
        host, *devices = self._uses(split)
        gpu_bytes = sum(max(room.free_bytes, room.room_bytes) for room in self.packing.rooms)
        return (
            host.kv_bytes * _HOST_SHARE <= self.machine.total_bytes
            and sum(use.kv_bytes for use in devices) * _GPU_SHARE <= gpu_bytes
        )

    # Telling ----------------------------------------------------------------------------------

    def fitted(self, split: Split) -> Fit:
        """The split as what a runner performs, with its account."""
        first = len(self.facts.layers) + 1 - split.n_layers
        experts = range(first, first + split.n_host_experts)
        placement = self._placement(split, tuple(experts))
        uses = self._uses(split)
        n_host = first if split.n_layers else first + 1
        mapped = self.facts.mapped_bytes(
            n_host, max(n_host, first + split.n_host_experts), head_on_host=split.head_on_host
        )
        return Fit(
            placement=placement,
            target_n_ctx=self.target,
            uses=uses,
            n_layers=len(self.facts.layers) + 1,
            n_host_experts=split.n_host_experts,
            companions_on_gpu=split.companions_on_gpu,
            head_on_host=split.head_on_host,
            reason=self._reason(split, placement),
            needed_bytes=host_needs(uses),
            mapped_bytes=mapped if placement.use_mmap else 0,
            rank=split.rank,
        )

    def _placement(self, split: Split, experts: tuple[int, ...]) -> Placement:
        used = [room for room, _ in split.segments]
        patterns = [EXPERTS_OF.format("|".join(map(str, experts)))] if experts else []
        patterns += [HEAD] if split.head_on_host else []
        ubatch = n_ubatch(self.facts, self.wishes, self.wanted)
        return Placement(
            n_ctx=split.n_ctx,
            n_batch=self.wishes.num_batch or ubatch,
            n_ubatch=ubatch,
            n_parallel=self.wishes.num_parallel or self.wanted.n_parallel,
            n_threads=self.wishes.num_thread or self.machine.n_cores,
            n_gpu_layers=split.n_layers,
            devices=tuple(room.name for room in used),
            layers=tuple(count for _, count in split.segments),
            overrides=tuple(TensorOverride(one, CPU) for one in patterns),
            kv_type=split.kv_type,
            use_mmap=self.wishes.use_mmap is not False,
            companions_on_gpu=split.companions_on_gpu and self.packing.has_companions,
            remotes=tuple(room.remote for room in used if room.remote),
        )

    def _reason(self, split: Split, placement: Placement) -> str:
        parts = [_where(split, len(self.facts.layers) + 1, placement.n_threads)]
        if split.n_host_experts:
            parts.append(f"experts of {split.n_host_experts} layers on the CPU")
        asked = self.wishes.num_gpu or 0
        if (
            asked > split.n_whole
            and self.packing.rooms
            and split.n_whole < len(self.facts.layers) + 1
        ):
            parts.append(f"no room for the {asked} layers that were asked for")
        parts.append(self._context_reason(split))
        if split.kv_type != self.kv_types[0]:
            parts.append(f"KV cache as {split.kv_type}, since {self.kv_types[0]} takes too much")
        return ", ".join(parts)

    def _context_reason(self, split: Split) -> str:
        """The context and why it is that."""
        told = f"context {split.n_ctx} of {self.facts.n_ctx_train} trained"
        if split.n_ctx < self.target:
            least = f", less than the {self.floor} aimed at" if split.n_ctx < self.floor else ""
            return f"{told}: {self._what_limits(split)}{least}"
        if self.automatic:
            return f"{told}, the largest"
        if not self.asked:
            return f"{told}, by QM_CONTEXT_LENGTH"
        more = self.wishes.num_ctx != split.n_ctx
        return f"{told}, for the {self.wishes.num_ctx} asked" if more else f"{told}, as asked"

    def _what_limits(self, split: Split) -> str:
        """Why the context is no longer."""
        longer = self._split(min(self.target, split.n_ctx + CONTEXT_STEP), split.kv_type)
        if split.n_ctx < self.floor or not self._fits_host(longer):
            return f"memory is short for {self.target}"
        if not self._leaves_room(longer):
            return "the rest of the memory is for other models"
        return "more would cost layers on GPUs"

    def refusal(self) -> DoesNotFit:
        """Why nothing fits, with the numbers of what would be least."""
        n_ctx = self.target if self.asked else min(self.target, LEAST_AUTOMATIC_CONTEXT)
        least = self._split(n_ctx, self.kv_types[-1])
        host, *devices = self._uses(least)
        beside = (
            f" beside {mib(sum(one.total_bytes for one in devices))} on GPUs" if devices else ""
        )
        limit = f" ({self.machine.limited_by})" if self.machine.limited_by else ""
        return DoesNotFit(
            f"the model needs {mib(host.total_bytes + RUNNER_BYTES)} of host memory{beside} with a "
            f"context of {n_ctx} tokens (weights {mib(host.weights_bytes)}, KV cache "
            f"{mib(host.kv_bytes)}, compute {mib(host.compute_bytes)}, the process "
            f"{mib(RUNNER_BYTES)}); "
            f"{mib(self.machine.available_bytes)} are available{limit}. "
            "Try a smaller num_ctx or a smaller quantisation"
        )


def _in_order(rooms: tuple[Room, ...], wishes: Options) -> tuple[Room, ...]:
    """The devices to fill: the one asked for first, then as the registry has them."""
    main = wishes.main_gpu or 0
    if rooms and main >= len(rooms):
        names = ", ".join(room.name for room in rooms) or "none"
        raise NoSuchDevice(f"main_gpu is {main}, but the GPUs are: {names}")
    ordered = (*rooms[main : main + 1], *rooms[:main], *rooms[main + 1 :])
    return tuple(room for room in ordered if room.room_bytes > 0)


def _where(split: Split, n_layers: int, n_threads: int) -> str:
    if not split.n_layers:
        return f"on the CPU with {n_threads} threads"
    counts = [count for _, count in split.segments]
    counts[-1] -= int(split.head_on_host)
    used = zip(counts, (room.name for room, _ in split.segments), strict=True)
    names = ", ".join(f"{count} on {name}" for count, name in used if count)
    left = "the rest, with the output," if split.head_on_host else "the rest"
    rest = "" if split.n_whole == n_layers else f", {left} on the CPU with {n_threads} threads"
    return f"{split.n_whole} of {n_layers} layers on GPUs ({names}){rest}"
