"""`qm lock`: what it takes to build the same models elsewhere, and whether it worked.

A lockfile is JSON: for each model the request that builds it, from a repository of the hub at one
commit or from files named by digest, and the digests of the weights that must come out.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from qm.store.errors import InvalidRequest

from .client import Client, JsonObject
from .connect import connect
from .lock_files import InputMissing, bring_missing, files_within, weights_of
from .naming import model_argument
from .progress import Progress

if TYPE_CHECKING:
    from qm.modelfiles.spec import Source

VERSION = 1
DEFAULT_FILE = Path("qm.lock")


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
        ctx.exit(_apply(client, _read(file), models, file.absolute().parent))
    named = models or _all(client)
    document = {"version": VERSION, "models": {name: _entry(client, name) for name in named}}
    file.write_text(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    click.echo(f"locked {len(named)} models in {file}")


def _all(client: Client) -> tuple[str, ...]:
    return tuple(model["name"] for model in client.get("/api/tags")["models"])


def _entry(client: Client, name: str) -> JsonObject:
    """How to build one model."""
    info = client.post("/api/show", {"model": name})
    return lock_entry(name, info) | _own_text(client, name)


def _own_text(client: Client, name: str) -> JsonObject:
    """The text that the model was calibrated on, if it is one of its maker's."""
    text = client.post("/qm/calibration", {"model": name})
    return {"calibration": text} if text["digest"] else {}


def lock_entry(name: str, info: JsonObject) -> JsonObject:
    """From what `/api/show` tells. Files that came from no hub are named by digest."""
    from dataclasses import replace

    from qm.modelfiles.create_request import to_create_request
    from qm.modelfiles.parser import parse
    from qm.modelfiles.spec import Source, from_modelfile

    made = (info.get("qm") or {}).get("provenance") or {}
    steps = {step["kind"]: step for step in made.get("steps") or ()}
    spec = from_modelfile(parse(str(info["modelfile"]).encode()))
    weights = [_digest_of(each) for each in spec.from_]
    sources = {role: (Source(text),) for role, text in (made.get("sources") or {}).items()}
    adapters = sources.get("adapter") or files_within(made, "adapter/")
    applied = tuple(Source("adapter.gguf", _digest_of(each)) for each in spec.adapters)
    wholly = replace(
        spec,
        from_=_origin(name, made, weights),
        deltas=sources.get("delta") or files_within(made, "delta/"),
        adapters=adapters or applied,
        merge=bool(adapters) and not spec.adapters,
        imatrix_file=next(iter(sources.get("imatrix") or _own_matrix(steps)), None),
        calibration=next(iter(sources.get("calibration", ())), None),
    )
    request = to_create_request(wholly, {})
    opened = {"allow_pickle": True} if _opened_pickles(steps) else {}
    return {"request": request | opened | _quantize(steps), "weights": weights}


def _origin(name: str, made: JsonObject, weights: list[str]) -> tuple[Source, ...]:
    """The repository at its commit, what was pulled by its name, or files from elsewhere."""
    from qm.modelfiles.spec import Source

    pulled = Source(name)
    if not made and pulled.is_hub:
        return (pulled,)
    if made.get("repository") and made.get("commit"):
        return (Source(f"{made['repository']}@{made['commit']}"),)
    return files_within(made, "") or weights_of(made, weights)


def _digest_of(source: Source) -> str:
    return f"sha256:{source.text.rpartition('-')[2]}"


def _own_matrix(steps: JsonObject) -> tuple[Source, ...]:
    """An importance matrix that was not computed."""
    from qm.modelfiles.spec import Source

    digest = steps.get("quantize", {}).get("inputs", {}).get("imatrix")
    given = digest and "imatrix" not in steps
    return (Source("imatrix.gguf", digest),) if given else ()


def _opened_pickles(steps: JsonObject) -> bool:
    return bool(steps.get("convert", {}).get("parameters", {}).get("allow_pickle"))


def apply_entry(client: Client, name: str, entry: JsonObject, folder: Path) -> bool:
    """Builds one model; whether the weights are those of the lockfile.

    Files that came from no hub are looked for in `folder`. Raises InputMissing.
    """
    request = {**entry["request"], "model": name}
    bring_missing(client, request, folder)
    if (text := entry.get("calibration")) and "calibration_from" not in request:
        client.upload(text["digest"], base64.b64decode(text["data"]))
        request["calibration"] = {"calibration.txt": text["digest"]}
    with client.stream("/api/create", request) as items:
        Progress(sys.stderr).follow(items)
    same = bool(_weights(client.post("/api/show", {"model": name})) == entry["weights"])
    click.echo(f"{name}: {'the same weights' if same else 'OTHER weights than were locked'}")
    return same


def _apply(client: Client, document: JsonObject, models: tuple[str, ...], folder: Path) -> int:
    """The exit code: 0 if all came out the same."""
    from qm.store.name import Name

    entries = document["models"]
    known = {Name.parse(name): name for name in entries}
    unknown = [name for name in models if Name.parse(name) not in known]
    if unknown:
        raise LockfileInvalid(f"the lockfile does not list {unknown[0]}")
    names = [known[Name.parse(name)] for name in models] or list(entries)
    results = [_applied(client, name, entries[name], folder) for name in names]
    return 0 if all(results) else 1


def _applied(client: Client, name: str, entry: JsonObject, folder: Path) -> bool:
    """As `apply_entry`; a model whose files are not here does not keep others from being built."""
    try:
        return apply_entry(client, name, entry, folder)
    except InputMissing as error:
        click.echo(f"{name}: {error.message}", err=True)
        return False


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


def _quantize(steps: JsonObject) -> JsonObject:
    """The words of QUANTIZE and its company that give these steps."""
    if "quantize" not in steps:
        kind = steps.get("convert", {}).get("parameters", {}).get("out_type", "auto")
        return {} if kind == "auto" else {"quantize": kind.upper()}
    step = steps["quantize"]
    said = dict(step["parameters"])
    types = said.pop("tensor_types", [])
    words = [said.pop("type"), *(k if v is True else f"{k}={v}" for k, v in said.items())]
    if "imatrix" in steps:
        imatrix = {"imatrix": "auto"}
    else:
        imatrix = {} if step["inputs"].get("imatrix") else {"imatrix": "none"}
    return {"quantize": " ".join(words)} | imatrix | ({"tensor_types": types} if types else {})
