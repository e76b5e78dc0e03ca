"""What the daemon has done, counted, and told in the text format that Prometheus reads."""

from __future__ import annotations

import bisect
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from .chat.request import Delta, Event, Finished
from .metric_help import HELP

Labels: TypeAlias = tuple[tuple[str, str], ...]
Sample: TypeAlias = tuple[Mapping[str, str], float]

_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_MOST_SERIES = 1000  # of one name: labels that clients choose must not fill the memory


@dataclass(slots=True)
class Histogram:
    """How often something took how long."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(_BOUNDS_S) + 1))
    sum_s: float = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect.bisect_left(_BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    def lines(self, name: str) -> Iterator[str]:
        total = 0
        for bound, count in zip((*map(str, _BOUNDS_S), "+Inf"), self.counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self.sum_s:.6f}"
        yield f"{name}_count {total}"


class Meter:
    """Counts requests and what they cost. One event loop writes it."""

    def __init__(self) -> None:
        self._counters: dict[str, dict[Labels, float]] = defaultdict(dict)
        self._requests = Histogram()
        self._first_token = Histogram()

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Adds to a counter; past a thousand different labels, to one without."""
        series = self._counters[name]
        key = tuple(sorted(labels.items()))
        if key not in series and len(series) >= _MOST_SERIES:
            key = tuple((label, "other") for label, _ in key)
        series[key] = series.get(key, 0) + amount

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        self.count("qm_http_requests_total", method=method, route=route, status=str(status))
        self._requests.observe(seconds)

    def watch(self, model: str) -> Watch:
        """For one answer that begins now."""
        return Watch(self, model)

    def first_token(self, seconds: float) -> None:
        self._first_token.observe(seconds)

    def answered(self, model: str, finished: Finished) -> None:
        metrics = finished.metrics
        self.count("qm_answers_total", model=model, reason=finished.reason.value)
        self.count("qm_prompt_tokens_total", metrics.prompt_tokens, model=model)
        self.count("qm_cached_prompt_tokens_total", metrics.cached_tokens, model=model)
        self.count("qm_generated_tokens_total", metrics.generated_tokens, model=model)
        self.count("qm_drafted_tokens_total", metrics.drafted_tokens, model=model)
        self.count("qm_accepted_tokens_total", metrics.accepted_tokens, model=model)
        self.count("qm_generation_seconds_total", metrics.generate_ns / 1e9, model=model)

    def text(self, gauges: Mapping[str, Iterable[Sample]]) -> str:
        """Everything counted, and `gauges`: what is so at the moment, by name."""
        lines: list[str] = []
        for name, series in sorted(self._counters.items()):
            lines += _head(name, "counter")
            lines += [f"{name}{_labels(key)} {_number(value)}" for key, value in series.items()]
        for name, histogram in (
            ("qm_http_request_seconds", self._requests),
            ("qm_time_to_first_token_seconds", self._first_token),
        ):
            lines += [*_head(name, "histogram"), *histogram.lines(name)]
        for name, samples in sorted(gauges.items()):
            lines += _head(name, "gauge")
            lines += [f"{name}{_labels(tuple(k.items()))} {_number(v)}" for k, v in samples]
        return "\n".join(lines) + "\n"


class Watch:
    """Sees the events of one answer: counts its tokens and the time to the first of them."""

    def __init__(self, meter: Meter, model: str) -> None:
        self._meter = meter
        self._model = model
        self._started = time.monotonic()
        self._waiting = True

    def saw(self, event: Event) -> None:
        if self._waiting and isinstance(event, Delta):
            self._waiting = False
            self._meter.first_token(time.monotonic() - self._started)
        elif isinstance(event, Finished):
            self._meter.answered(self._model, event)


def _head(name: str, kind: str) -> Iterator[str]:
    if name in HELP:
        yield f"# HELP {name} {HELP[name]}"
    yield f"# TYPE {name} {kind}"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.6f}"
