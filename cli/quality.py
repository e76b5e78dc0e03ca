"""`qm eval`, and how measured quality is printed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from .client import JsonObject
from .connect import connect, show_json
from .naming import model_argument
from .progress import Progress
from .sources import bring
from .table import size_text, table

_COLUMNS = ("NAME", "TYPE", "BPW", "SIZE", "PERPLEXITY", "KLD", "TOP-1", "PROMPT", "GENERATED")


@click.command()
@model_argument("model")
@click.option("--base", metavar="MODEL", help="Also measure how far MODEL is from this one.")
@click.option("--text", metavar="FILE", type=click.Path(path_type=Path), help="Over this text.")
@click.option("--chunks", type=click.IntRange(1), help="Read only so many times 512 tokens.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def eval_command(
    model: str, base: str | None, text: Path | None, chunks: int | None, as_json: bool
) -> None:
    """Measure MODEL: perplexity, divergence from a base, size, speed and memory.

    The result is kept with the model: qm show and qm list --quality print it.
    """
    client = connect()
    body: JsonObject = {"model": model, "base": base or ""}
    body |= {"text": bring(client, text) if text else "", "chunks": chunks or 0}
    with client.stream("/qm/eval", body) as items:
        quality = Progress(sys.stderr).follow(items)["quality"]
    if as_json:
        show_json(quality)
        return
    facts = quality_facts(quality)
    width = max(len(name) for name, _ in facts)
    click.echo("\n".join(f"{name:<{width}}  {value}" for name, value in facts))


def quality_facts(quality: JsonObject) -> list[tuple[str, str]]:
    """Name and value of everything that was measured."""
    facts = [
        ("perplexity", f"{quality['perplexity']:.4f} ± {quality['perplexity_error']:.4f}"),
        *_divergence(quality),
        ("bits per weight", f"{quality['bits_per_weight']:.2f}"),
        ("size", size_text(quality["size_bytes"])),
        ("prompt", f"{quality['prompt_tokens_per_s']:.0f} tokens/s"),
        ("generated", f"{quality['generated_tokens_per_s']:.1f} tokens/s"),
    ]
    if peak := quality.get("peak_memory_bytes"):
        facts.append(("peak memory", size_text(peak)))
    return facts


def quality_table(models: Sequence[JsonObject]) -> str:
    """One row a model; what was not measured is a dash."""
    return table(_COLUMNS, [quality_row(model["name"], model) for model in models])


def quality_row(name: str, model: JsonObject) -> tuple[str, ...]:
    """The cells of a model of `/api/tags`."""
    kind = str((model.get("details") or {}).get("quantization_level", ""))
    quality = (model.get("qm") or {}).get("quality") or {}
    return (
        name,
        kind,
        _cell(quality, "bits_per_weight", ".2f"),
        size_text(quality.get("size_bytes") or model.get("size", 0)),
        _cell(quality, "perplexity", ".4f"),
        _cell(quality, "kld_mean", ".5f"),
        _cell(quality, "top1_agreement", ".1%"),
        _cell(quality, "prompt_tokens_per_s", ".0f"),
        _cell(quality, "generated_tokens_per_s", ".1f"),
    )


def _cell(quality: JsonObject, key: str, form: str) -> str:
    value = quality.get(key)
    return "-" if value is None else format(value, form)


def _divergence(quality: JsonObject) -> list[tuple[str, str]]:
    if quality.get("kld_mean") is None:
        return []
    return [
        ("divergence", f"{quality['kld_mean']:.6f} mean, {quality['kld_p99']:.5f} at 99 %"),
        ("same first choice", f"{quality['top1_agreement']:.2%}"),
    ]
