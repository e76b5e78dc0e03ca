"""What a load maps of model files beyond the tensors that are needed of them. Pure.

llama.cpp maps from the first to the last tensor of a device, whatever lies between, and reports
that range: for the host, and for GPUs that compute on the host's own pages, as Apple's do. A dry
run maps nothing; where its account can be read, accounts.py adds what the host maps to it.
"""

from __future__ import annotations

from dataclasses import replace

from .facts import ModelFacts, Span, mapped_bytes
from .placing import Fit


def as_mapped(fit: Fit, facts: ModelFacts) -> Fit:
    """`fit`, counted from the files alone, with the ranges that a load of it will report."""
    if not (fit.placement.use_mmap and facts.spans):
        return fit
    first = len(facts.layers) + 1 - fit.placement.n_gpu_layers  # the first layer that is on a GPU
    on_host = facts.spans_of_host(first, first + fit.n_host_experts, fit.head_on_host)
    host, *devices = fit.uses
    uses = [replace(host, weights_bytes=host.weights_bytes + _between(on_host))]
    for use in devices:
        maps = use.maps_files and len(devices) == 1
        beyond = _between(_beside(on_host, facts, fit)) if maps else 0
        uses.append(replace(use, weights_bytes=use.weights_bytes + beyond))
    return replace(fit, uses=tuple(uses))


def _beside(on_host: tuple[Span, ...], facts: ModelFacts, fit: Fit) -> tuple[Span, ...]:
    """What the only GPU has: all others, and the table of the output."""
    here = set(on_host)
    return tuple(
        span for span in facts.spans if span not in here or (span.is_head and not fit.head_on_host)
    )


def _between(spans: tuple[Span, ...]) -> int:
    return mapped_bytes(spans) - sum(span.end - span.start for span in spans)
