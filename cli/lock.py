"""`qm lock`: what it takes to build the same models elsewhere, and whether it worked.

A lockfile is JSON: for each model the request that builds it, from a repository of the hub at one
commit, and the digests of the weights that must come out.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click
from qm.store.errors import InvalidRequest

from .client import Client, JsonObject
from .connect import connect
from .naming import model_argument
from .progress import Progress

if TYPE_CHECKING:
    from qm.modelfiles.spec import ModelSpec

VERSION = 1
DEFAULT_FILE = Path("qm.lock")


class CannotLock(InvalidRequest):
    """A model that nobody could build elsewhere from what is on record."""

    code = "cannot_lock"


class LockfileInvalid(InvalidRequest):
    """A lockfile that can't be read."""

    code = "lockfile_invalid"


@click.command()
@model_argument("models", nargs=-1, required=False)
@click.option(
    "-f",
    "--file",
    type=click.Path(path_type=Path),
    default=DEFAULT_FILE,
    show_default=True,
    help="The lockfile to write, or to apply.",
)
@click.option("--apply", is_flag=True, help="Build what the file lists, and check the weights.")
@click.pass_context
def lock_command(ctx: click.Context, models: tuple[str, ...], file: Path, apply: bool) -> None:
    """Write down how MODELS (or all that can be) are built, or build them from that."""
    client = connect()
    if apply:
        ctx.exit(_apply(client, _read(file), models))
    named = models or _all(client)
    entries = {name: entry for name in named if (entry := _entry(client, name, bool(models)))}
    document = {"version": VERSION, "models": entries}
    file.write_text(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    click.echo(f"locked {len(entries)} of {len(named)} models in {file}")


def _all(client: Client) -> tuple[str, ...]:
    return tuple(model["name"] for model in client.get("/api/tags")["models"])


def _entry(client: Client, name: str, must: bool) -> JsonObject | None:
    """How to build one model. Raises CannotLock if it `must` be locked."""
    info = client.post("/api/show", {"model": name})
    try:
        return lock_entry(name, info) | _own_text(client, name)
    except CannotLock as error:
        if must:
            raise
        click.echo(f"not locked: {error.message}", err=True)
        return None


def _own_text(client: Client, name: str) -> JsonObject:
    """The text that the model was calibrated on, if it is one of its maker's."""
    text = client.post("/qm/calibration", {"model": name})
    return {"calibration": text} if text["digest"] else {}


def lock_entry(name: str, info: JsonObject) -> JsonObject:
    """From what `/api/show` tells. Raises CannotLock."""
    from dataclasses import replace

    from qm.modelfiles.create_request import to_create_request
    from qm.modelfiles.parser import parse
    from qm.modelfiles.spec import Source, from_modelfile

    made = (info.get("qm") or {}).get("provenance") or {}
    if not made.get("repository") or not made.get("commit"):
        raise CannotLock(f"{name} was not built from a repository of the hub")
    steps = {step["kind"]: step for step in made["steps"]}
    spec = from_modelfile(parse(str(info["modelfile"]).encode()))
    weights = [f"sha256:{each.text.rpartition('-')[2]}" for each in spec.from_]
    origin = Source(f"{made['repository']}@{made['commit']}")
    sources = {role: (Source(text),) for role, text in (made.get("sources") or {}).items()}
    _check_additions(name, made, spec, sources)
    wholly = replace(
        spec,
        from_=(origin,),
        deltas=sources.get("delta", ()),
        adapters=sources.get("adapter", ()),
        merge="adapter" in sources and not spec.adapters,
        imatrix_file=next(iter(sources.get("imatrix", ())), None),
        calibration=next(iter(sources.get("calibration", ())), None),
    )
    request = to_create_request(wholly, {})
    opened = {"allow_pickle": True} if _opened_pickles(steps) else {}
    return {"request": request | opened | _quantize(name, steps, sources), "weights": weights}


def _opened_pickles(steps: JsonObject) -> bool:
    return bool(steps.get("convert", {}).get("parameters", {}).get("allow_pickle"))


def _check_additions(
    name: str, made: JsonObject, spec: ModelSpec, sources: Mapping[str, object]
) -> None:
    """Raises CannotLock for what was added from this machine."""
    files = made.get("files") or {}
    for role in ("delta", "adapter"):
        used = any(file.startswith(f"{role}/") for file in files)
        used |= role == "adapter" and bool(spec.adapters)
        if used and role not in sources:
            raise CannotLock(f"{name} has an {role.upper()} that is on this machine only")


def apply_entry(client: Client, name: str, entry: JsonObject) -> bool:
    """Builds one model; whether the weights are those of the lockfile."""
    request = {**entry["request"], "model": name}
    if (text := entry.get("calibration")) and "calibration_from" not in request:
        client.upload(text["digest"], base64.b64decode(text["data"]))
        request["calibration"] = {"calibration.txt": text["digest"]}
    with client.stream("/api/create", request) as items:
        Progress(sys.stderr).follow(items)
    same = bool(_weights(client.post("/api/show", {"model": name})) == entry["weights"])
    click.echo(f"{name}: {'the same weights' if same else 'OTHER weights than were locked'}")
    return same


def _apply(client: Client, document: JsonObject, models: tuple[str, ...]) -> int:
    """The exit code: 0 if all came out the same."""
    entries = document["models"]
    unknown = [name for name in models if name not in entries]
    if unknown:
        raise LockfileInvalid(f"the lockfile does not list {unknown[0]}")
    results = [apply_entry(client, name, entries[name]) for name in models or entries]
    return 0 if all(results) else 1


def _weights(info: JsonObject) -> list[str]:
    """The digests that a model's Modelfile names."""
    lines = str(info["modelfile"]).splitlines()
    blobs = [line.rpartition("sha256-")[2] for line in lines if line.startswith("FROM ")]
    return [f"sha256:{digest}" for digest in blobs]


def _read(file: Path) -> JsonObject:
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise LockfileInvalid(f"can't read the lockfile {file}: {error}") from error
    match document:
        case {"version": 1, "models": dict(models)} if all(
            isinstance(each, dict) and {"request", "weights"} <= set(each)
            for each in models.values()
        ):
            return dict(document)
    raise LockfileInvalid(f"{file} is no lockfile of version {VERSION}")


def _quantize(name: str, steps: JsonObject, sources: Mapping[str, object]) -> JsonObject:
    """The words of QUANTIZE and its company that give these steps."""
    if "quantize" not in steps:
        kind = steps["convert"]["parameters"]["out_type"]
        return {} if kind == "auto" else {"quantize": kind.upper()}
    step = steps["quantize"]
    said = dict(step["parameters"])
    types = said.pop("tensor_types", [])
    words = [said.pop("type"), *(k if v is True else f"{k}={v}" for k, v in said.items())]
    computed = "imatrix" in steps
    if step["inputs"].get("imatrix") and not computed and "imatrix" not in sources:
        raise CannotLock(f"{name} was quantized with an importance matrix of its own")
    imatrix = {} if "imatrix" in sources else {"imatrix": "auto" if computed else "none"}
    return {"quantize": " ".join(words)} | imatrix | ({"tensor_types": types} if types else {})
