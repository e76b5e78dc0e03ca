"""`qm compare`: a ladder of types from one base, built, measured, and put side by side."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .client import Client, JsonObject
from .connect import connect, show_json
from .naming import model_argument
from .progress import Progress
from .quality import quality_table
from .sources import bring

DEFAULT_TYPES = "Q2_K,Q3_K_M,Q4_K_M,Q5_K_M,Q6_K,Q8_0"
_BAR_COLUMNS = 40


@click.command()
@model_argument("model")
@click.option("--types", default=DEFAULT_TYPES, show_default=True, help="Separated by commas.")
@click.option("--text", metavar="FILE", type=click.Path(path_type=Path), help="Measure over this.")
@click.option("--imatrix", default="auto", help="auto or none.", show_default=True)
@click.option("--chart", metavar="FILE", type=click.Path(path_type=Path), help="Also a PNG.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def compare_command(
    *, model: str, types: str, text: Path | None, imatrix: str, chart: Path | None, as_json: bool
) -> None:
    """Quantise MODEL (in F16, BF16 or F32) to several types and compare them with it.

    The models stay, as MODEL-TYPE; what was built before is not built again.
    """
    from qm.modelfiles.quantization import file_type

    client = connect()
    kinds = [file_type(each.strip()) for each in types.split(",") if each.strip()]
    digest = bring(client, text) if text else ""
    base = _base(client, model)
    for kind in kinds:
        name = ladder_name(model, kind)
        body = {"model": name, "from": base, "quantize": kind, "imatrix": imatrix}
        _follow(client, "/api/create", body)
        _follow(client, "/qm/eval", {"model": name, "base": base, "text": digest})
    _follow(client, "/qm/eval", {"model": base, "text": digest})
    wanted = [base, *(ladder_name(model, kind) for kind in kinds)]
    rows = _rows(client, wanted)
    if chart:
        from .chart import bar_chart

        chart.write_bytes(bar_chart(_bars(rows)))
    if as_json:
        show_json(rows)
    else:
        click.echo(quality_table(rows))
        click.echo(f"\n{terminal_chart(_bars(rows))}")


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


def _bars(rows: list[JsonObject]) -> list[tuple[str, float]]:
    return [
        (str(row["details"]["quantization_level"]), float(row["qm"]["quality"]["perplexity"]))
        for row in rows
    ]


def _base(client: Client, model: str) -> str:
    """Its name with the tag, as listings have it."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"


def _follow(client: Client, target: str, body: JsonObject) -> None:
    with client.stream(target, body) as items:
        Progress(sys.stderr).follow(items)


def _rows(client: Client, names: list[str]) -> list[JsonObject]:
    """In the order of the names."""
    full = {name if ":" in name else f"{name}:latest" for name in names}
    models = {model["name"]: model for model in client.get("/api/tags")["models"]}
    order = sorted(full, key=lambda name: models[name]["qm"]["quality"]["size_bytes"])
    return [models[name] for name in order]
