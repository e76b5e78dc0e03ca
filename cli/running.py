"""`qm ps`, `qm stop`: the models that are loaded, and the jobs that run."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from .client import JsonObject
from .connect import connect_if_running, show_json
from .naming import model_argument
from .table import duration_text, size_text, table, until_text
from .transport import DaemonNotRunning

ID_LENGTH = 12
JOB_HEADER = ("JOB", "MODEL", "PROGRESS", "SINCE")
HEADER = ("NAME", "ID", "SIZE", "PREDICTED", "PROCESSOR", "CONTEXT", "UNTIL")


@click.command()
@click.argument("prefix", default="")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--why", is_flag=True, help="Say why each is placed as it is.")
def ps_command(prefix: str, as_json: bool, why: bool) -> None:
    """List the models that are loaded, and the jobs that run; PREFIX narrows the first list."""
    models = [model for model in _loaded() if model["name"].lower().startswith(prefix.lower())]
    if as_json:
        show_json([_with_account(model) for model in models])
        return
    now = datetime.now(UTC)
    click.echo(table(HEADER, [_row(model, now) for model in models]))
    for model in models if why else ():
        click.echo(f"{model['name']}: {model.get('qm', {}).get('placement', '')}")
    if jobs := _jobs():
        click.echo()
        click.echo(table(JOB_HEADER, [_job_row(job) for job in jobs]))


@click.command()
@model_argument("model")
def stop_command(model: str) -> None:
    """Unload MODEL now, and return when its memory is free."""
    try:
        unloaded = connect_if_running().post("/qm/unload", {"model": model})["unloaded"]
    except DaemonNotRunning:
        unloaded = False
    click.echo(f"unloaded '{model}'" if unloaded else f"'{model}' was not loaded")


def _loaded() -> list[JsonObject]:
    """Without a daemon nothing is loaded, and asking is no reason to start one."""
    try:
        return list(connect_if_running().get("/api/ps")["models"])
    except DaemonNotRunning:
        return []


def _jobs() -> list[JsonObject]:
    """Downloads, builds and checks."""
    try:
        return list(connect_if_running().get("/qm/status").get("jobs", []))
    except DaemonNotRunning:
        return []


def _job_row(job: JsonObject) -> tuple[str, ...]:
    step = job.get("step") or {}
    told = str(step.get("status", "waiting"))
    if total := step.get("total"):
        done = step.get("completed") or 0
        told += f" {done / total:.0%} of {size_text(total)}"
    return str(job["kind"]), str(job.get("name") or "-"), told, duration_text(job["seconds"])


def _with_account(model: JsonObject) -> JsonObject:
    """The API's own object, and in front what its `qm` has of sizes: in total and by device."""
    own = model.get("qm", {})
    account = {name: own.get(name) for name in ("predicted_bytes", "actual_bytes", "devices")}
    return model | {"processor": processor_text(model["size"], model["size_vram"])} | account


def _row(model: JsonObject, now: datetime) -> tuple[str, ...]:
    return (
        model["name"],
        model["digest"][:ID_LENGTH],
        size_text(model["size"]),
        _account(model),
        processor_text(model["size"], model["size_vram"]),
        str(model["context_length"]),
        until_text(model["expires_at"], now),
    )


def processor_text(size_bytes: int, vram_bytes: int) -> str:
    """Where a model's memory is: "100% CPU", "100% GPU" or "72% GPU / 28% CPU"."""
    if not vram_bytes:
        return "100% CPU"
    if vram_bytes >= size_bytes:
        return "100% GPU"
    on_gpu = min(99, max(1, round(100 * vram_bytes / size_bytes)))
    return f"{on_gpu}% GPU / {100 - on_gpu}% CPU"


def _account(model: JsonObject) -> str:
    """How far the prediction was off, once that is known: "209 MB (+0.3%)"."""
    own = model.get("qm", {})
    predicted, actual = own.get("predicted_bytes"), own.get("actual_bytes")
    if not predicted:
        return "-"
    if not actual:
        return size_text(predicted)
    return f"{size_text(predicted)} ({100 * (predicted - actual) / actual:+.1f}%)"
