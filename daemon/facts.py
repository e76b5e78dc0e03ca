"""A model in numbers: what each of its layers weighs, and what a token of context takes there.

Pure; read from GGUF headers alone. llama.cpp's dry run says later where these numbers are not true.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from qm.store.gguf import Header, Tensor

from .both_ways import sees_ahead

_LAYER = re.compile(r"blk\.(\d+)\.")
_EXPERT = re.compile(r"_(?:exps|chexps)\.")  # experts of which a token uses a few
_INPUT = ("token_embd", "token_types", "position_embd", "per_layer_token_embd", "rope_")


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """One block. `kv_elements` are the numbers that a token leaves in its cache."""

    dense_bytes: int
    expert_bytes: int
    kv_elements: int

    @property
    def weights_bytes(self) -> int:
        return self.dense_bytes + self.expert_bytes


@dataclass(frozen=True, slots=True)
class Span:
    """Where a tensor lies in which file. Layer -1 is the input, one past the last the output."""

    layer: int
    is_expert: bool
    start: int
    end: int
    file: int = 0
    is_head: bool = False


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The numbers of a model that decide what it takes.

    `output_bytes` is what the last step needs where it runs on a GPU; of that `head_bytes` are the
    table that makes logits, and `tied_bytes` the same where it is a copy of the input's table,
    which the host has anyway. `extra_bytes` belongs to companions: projector (`projector_bytes` of
    them), adapters, a draft model's weights and buffers (`draft_bytes`); `extra_host_bytes` is what
    the host has of them though they are on a GPU.
    `draft_mapped` is what a load maps of a draft model's file: on the host, and beside a GPU.
    `sees_ahead`: it embeds, and its attention looks both ways: an input is evaluated in one piece.
    """

    n_ctx_train: int
    n_embd: int
    n_vocab: int
    input_bytes: int
    output_bytes: int
    tied_bytes: int
    layers: tuple[LayerFacts, ...]
    extra_bytes: int = 0
    extra_kv_elements: int = 0
    projector_bytes: int = 0
    draft_bytes: int = 0
    extra_host_bytes: int = 0
    draft_mapped: tuple[int, int] = (0, 0)
    n_parameters: int = 0
    head_bytes: int = 0
    sees_ahead: bool = False
    spans: tuple[Span, ...] = field(default=(), repr=False)

    @property
    def weights_bytes(self) -> int:
        own = self.input_bytes + self.output_bytes - self.tied_bytes
        return own + sum(layer.weights_bytes for layer in self.layers)

    @property
    def kv_elements(self) -> int:
        return sum(layer.kv_elements for layer in self.layers)

    @property
    def kv_sizes(self) -> set[int]:
        """The different `kv_elements` of its layers."""
        return {layer.kv_elements for layer in self.layers}

    @property
    def has_experts(self) -> bool:
        return any(layer.expert_bytes for layer in self.layers)

    def with_projector(self, projector_bytes: int) -> ModelFacts:
        """The same with a projector that is known to take so much."""
        extra = self.extra_bytes - self.projector_bytes + projector_bytes
        return replace(self, extra_bytes=extra, projector_bytes=projector_bytes)

    def with_draft(self, draft_bytes: int, host_bytes: int) -> ModelFacts:
        """The same with a draft model that is known to take so much, cache aside."""
        extra = self.extra_bytes - self.draft_bytes + draft_bytes
        return replace(
            self, extra_bytes=extra, draft_bytes=draft_bytes, extra_host_bytes=host_bytes
        )

    def at_bits(self, bits_per_weight: float) -> ModelFacts:
        """The same model quantised to so many bits on average; nothing of it is mapped yet."""
        factor = bits_per_weight * self.n_parameters / 8 / max(1, self.weights_bytes)
        return replace(
            self,
            input_bytes=int(self.input_bytes * factor),
            output_bytes=int(self.output_bytes * factor),
            tied_bytes=int(self.tied_bytes * factor),
            head_bytes=int(self.head_bytes * factor),
            layers=tuple(
                LayerFacts(
                    int(one.dense_bytes * factor), int(one.expert_bytes * factor), one.kv_elements
                )
                for one in self.layers
            ),
            spans=(),
        )

    def mapped_bytes(
        self, n_host_layers: int, n_host_experts: int, *, head_on_host: bool = False
    ) -> int:
        """What of the files is mapped where the host has the first `n_host_layers` layers, and the
        experts of the first `n_host_experts`: llama.cpp maps each from the first to the last tensor
        that the host needs, whatever lies between.
        """
        return mapped_bytes(self.spans_of_host(n_host_layers, n_host_experts, head_on_host))

    def spans_of_host(
        self, n_host_layers: int, n_host_experts: int, head_on_host: bool
    ) -> tuple[Span, ...]:
        """The tensors that the host needs then."""
        return tuple(
            span
            for span in self.spans
            if span.layer < (n_host_experts if span.is_expert else n_host_layers)
            or (span.is_head and head_on_host)
        )


def mapped_bytes(spans: Iterable[Span]) -> int:
    """What is mapped for these tensors: of each file from the first to the last of them."""
    ends: dict[int, tuple[int, int]] = {}
    for span in spans:
        start, end = ends.get(span.file, (span.start, span.end))
        ends[span.file] = min(start, span.start), max(end, span.end)
    return sum(end - start for start, end in ends.values())


def model_facts(
    header: Header,
    *,
    extra_bytes: int = 0,
    projector_bytes: int = 0,
    draft: Header | None = None,
    draft_compute_bytes: int = 0,
    parts: Iterable[Header] = (),
) -> ModelFacts:
    """The facts of a GGUF and the `parts` that follow it; numbers that it lacks count as zero."""
    files = [header, *parts]
    tensors = [tensor for file in files for tensor in file.tensors]
    n_layers = header.block_count or 0
    head = _size(tensors, "output.weight")
    tied = 0 if head else _size(tensors, "token_embd.weight")
    spans = tuple(
        _span(tensor, n_layers, number, "output.weight" if head else "token_embd.weight")
        for number, file in enumerate(files)
        for tensor in file.tensors
    )
    facts = ModelFacts(
        n_ctx_train=header.context_length or 0,
        n_embd=header.embedding_length or 0,
        n_vocab=max((one.shape[-1] for one in tensors if _is_vocabulary(one)), default=0),
        input_bytes=sum(one.size_bytes for one in tensors if _is_input(one)),
        output_bytes=tied + sum(one.size_bytes for one in tensors if _is_output(one)),
        tied_bytes=tied,
        layers=_layers(spans, kv_elements(header)),
        extra_bytes=extra_bytes + projector_bytes,
        projector_bytes=projector_bytes,
        extra_kv_elements=sum(kv_elements(draft)) if draft else 0,
        n_parameters=sum(one.items for one in tensors),
        head_bytes=head or tied,
        sees_ahead=_embeds_at_once(header),
        spans=spans,
    )
    return _with_draft(facts, model_facts(draft), draft_compute_bytes) if draft else facts


def _embeds_at_once(header: Header) -> bool:
    """Not a model that generates by diffusion: that takes a step as any other."""
    architecture, said = header.architecture or "", header.metadata
    pools = bool(said.get(f"{architecture}.pooling_type"))
    return pools and sees_ahead(architecture, said.get(f"{architecture}.attention.causal"))


def _with_draft(facts: ModelFacts, draft: ModelFacts, compute_bytes: int) -> ModelFacts:
    everything = len(draft.layers) + 2
    mapped = draft.mapped_bytes(everything, everything), draft.mapped_bytes(0, 0)
    found = facts.with_draft(draft.weights_bytes + compute_bytes, draft.input_bytes + compute_bytes)
    return replace(found, draft_mapped=mapped)


def kv_elements(header: Header) -> tuple[int, ...]:
    """For each layer, how many numbers a token leaves in the KV cache."""
    n_layers = header.block_count or 0
    heads = _numbers(header, "attention.head_count") or [1]
    kv_heads = _numbers(header, "attention.head_count_kv") or heads
    if len(kv_heads) == 1:
        kv_heads = kv_heads * n_layers
    kv_heads = (kv_heads + [0] * n_layers)[:n_layers]
    head_size = (header.embedding_length or 0) // max(1, *heads)
    key = header.of_architecture("attention.key_length") or head_size
    value = header.of_architecture("attention.value_length") or head_size
    return tuple(count * (key + value) for count in kv_heads)


def _layers(spans: tuple[Span, ...], kv: tuple[int, ...]) -> tuple[LayerFacts, ...]:
    dense, experts = [0] * len(kv), [0] * len(kv)
    for span in spans:
        if 0 <= span.layer < len(kv):
            (experts if span.is_expert else dense)[span.layer] += span.end - span.start
    return tuple(map(LayerFacts, dense, experts, kv))


def _span(tensor: Tensor, n_layers: int, file: int, head: str) -> Span:
    match = _LAYER.match(tensor.name)
    layer = int(match[1]) if match else -1 if _is_input(tensor) else n_layers
    is_expert = bool(_EXPERT.search(tensor.name))
    end = tensor.offset + tensor.size_bytes
    return Span(layer, is_expert, tensor.offset, end, file, tensor.name == head)


def _is_input(tensor: Tensor) -> bool:
    return tensor.name.startswith(_INPUT)


def _is_output(tensor: Tensor) -> bool:
    return not _is_input(tensor) and not _LAYER.match(tensor.name)


def _is_vocabulary(tensor: Tensor) -> bool:
    return tensor.name in ("token_embd.weight", "output.weight")


def _size(tensors: list[Tensor], name: str) -> int:
    return sum(one.size_bytes for one in tensors if one.name == name)


def _numbers(header: Header, name: str) -> list[int]:
    """One number for all layers, or one a layer."""
    value = header.metadata.get(f"{header.architecture}.{name}")
    listed = value if isinstance(value, list | tuple) else [value]
    return [one for one in listed if isinstance(one, int)]
