"""`qm compare`: a ladder of types from one base, built, measured, and put side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from qm.store.errors import InvalidRequest

from .client import Client, JsonObject
from .connect import connect, show_json
from .naming import model_argument
from .progress import Progress
from .sources import bring
from .table import size_text, table

if TYPE_CHECKING:
    from .chart import Chart

DEFAULT_TYPES = "Q2_K,Q3_K_M,Q4_K_M,Q5_K_M,Q6_K,Q8_0"
_BAR_COLUMNS = 40
_COLUMNS = ("TYPE", "BPW", "SIZE", "PERPLEXITY", "KLD", "TOP-1", "MS/TOKEN")
_MEASURED = (
    *("bits_per_weight", "size_bytes", "perplexity", "perplexity_error"),
    *("kld_mean", "kld_p99", "top1_agreement"),
    *("prompt_tokens_per_s", "generated_tokens_per_s"),
)


class NothingToCompare(InvalidRequest):
    """A ladder without rungs."""

    code = "nothing_to_compare"


@click.command()
@model_argument("model", as_written=True)
@click.option("--types", default=DEFAULT_TYPES, show_default=True, help="Separated by commas.")
@click.option("--text", metavar="FILE", type=click.Path(path_type=Path), help="Measure over this.")
@click.option("--chunks", type=click.IntRange(1), help="Read only so many times 512 tokens.")
@click.option("--imatrix", default="auto", help="auto or none.", show_default=True)
@click.option("--requantize", is_flag=True, help="Also if MODEL is quantised already.")
@click.option("--chart", metavar="FILE", type=click.Path(path_type=Path), help="Also a PNG.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def compare_command(
    *,
    model: str,
    types: str,
    text: Path | None,
    chunks: int | None,
    imatrix: str,
    requantize: bool,
    chart: Path | None,
    as_json: bool,
) -> None:
    """Quantise MODEL (in F16, BF16 or F32) to several types and compare them with it.

    The models stay, as MODEL-TYPE; what was built before is not built again.
    """
    client, kinds = connect(), ladder_types(types)
    digest = bring(client, text) if text else ""
    base = _base(client, model)
    names = [ladder_name(base, kind) for kind in kinds]
    for name, kind in zip(names, kinds, strict=True):
        quantize = f"{kind} requantize" if requantize else kind
        click.echo(f"building {name}", err=True)
        _follow(
            client,
            "/api/create",
            {"model": name, "from": base, "quantize": quantize, "imatrix": imatrix},
        )
    body: JsonObject = {"base": base, "models": names, "text": digest, "chunks": chunks or 0}
    _follow(client, "/qm/compare", body)
    rows = _rows(client, [base, *names])
    if chart:
        from .chart import bar_charts

        chart.write_bytes(bar_charts(charts(rows)))
    if as_json:
        show_json(rows)
    else:
        click.echo(table(_COLUMNS, [_cells(row) for row in rows]))
        click.echo(f"\n{terminal_chart(_bars(rows))}")


def ladder_types(text: str) -> list[str]:
    """What --types lists, each once. Raises UnknownType or NothingToCompare."""
    from qm.modelfiles.quantization import file_type

    kinds = [file_type(each.strip()) for each in text.split(",") if each.strip()]
    if not kinds:
        raise NothingToCompare("--types lists no type; try: --types Q4_K_M,Q8_0")
    return list(dict.fromkeys(kinds))


def ladder_name(model: str, kind: str) -> str:
    """`smol:latest` in Q4_K_M is smol-q4_k_m."""
    return f"{model.removesuffix(':latest')}-{kind.lower()}".replace(":", "-")


def terminal_chart(bars: list[tuple[str, float]]) -> str:
    """One bar a type, the longest for the largest perplexity."""
    if not bars:
        return ""
    most = max(value for _, value in bars)
    width = max(len(name) for name, _ in bars)
    lines = [
        f"{name:<{width}}  {'█' * max(1, round(value / most * _BAR_COLUMNS))} {value:.4f}"
        for name, value in bars
    ]
    return "\n".join(["perplexity", *lines])


def charts(rows: list[JsonObject]) -> list[Chart]:
    """What the table shows of each type that can be longer or shorter."""
    from .chart import Chart

    return [
        Chart("perplexity", _bars(rows), decimals=3),
        Chart("KL divergence from the base", _bars(rows, "kld_mean"), decimals=5),
        Chart("ms per token", _bars(rows, "ms_per_token"), decimals=2),
        Chart("bits per weight", _bars(rows, "bits_per_weight"), decimals=2),
    ]


def _bars(rows: list[JsonObject], what: str = "perplexity") -> list[tuple[str, float]]:
    """The base diverges from nothing."""
    return [(str(row["type"]), float(row[what])) for row in rows if row[what] is not None]


def _base(client: Client, model: str) -> str:
    """Its whole name, as listings have it. A model that is not here is an error at once."""
    name = model if ":" in model.rpartition("/")[2] else f"{model}:latest"
    client.post("/api/show", {"model": name})
    return name


def _follow(client: Client, target: str, body: JsonObject) -> None:
    with client.stream(target, body) as items:
        Progress(sys.stderr).follow(items)


def _rows(client: Client, names: list[str]) -> list[JsonObject]:
    """One for each name, the smallest first."""
    models = {model["name"].casefold(): model for model in client.get("/api/tags")["models"]}
    full = [name if ":" in name.rpartition("/")[2] else f"{name}:latest" for name in names]
    rows = [comparison(models[name.casefold()]) for name in full]
    return sorted(rows, key=lambda row: int(row["size_bytes"]))


def comparison(model: JsonObject) -> JsonObject:
    """What a model of `/api/tags` measured."""
    quality = model["qm"]["quality"]
    return {
        "type": model["details"]["quantization_level"],
        "name": model["name"],
        **{key: quality.get(key) for key in _MEASURED},
        "ms_per_token": 1000 / quality["generated_tokens_per_s"],
    }


def _cells(row: JsonObject) -> tuple[str, ...]:
    divergence, same = row["kld_mean"], row["top1_agreement"]
    return (
        str(row["type"]),
        f"{row['bits_per_weight']:.2f}",
        size_text(row["size_bytes"]),
        f"{row['perplexity']:.4f} ± {row['perplexity_error']:.4f}",
        "-" if divergence is None else f"{divergence:.5f}",
        "-" if same is None else f"{same:.1%}",
        f"{row['ms_per_token']:.1f}",
    )
