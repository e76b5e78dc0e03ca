"""What jobs do: each takes JSON arguments, tells its progress, and returns its last word.

Imported in the job's process alone; each kind imports what it needs when it runs, so that a quick
job starts quickly. Those that compute stand back; the others move bytes, or take a moment.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from .lifeline import stand_back

if TYPE_CHECKING:
    from qm.store.pull.download import Limits
    from qm.store.pull.registry import Endpoint
    from qm.store.store import Store

JsonObject: TypeAlias = dict[str, Any]  # Any: a JSON document, checked by who reads it
Progress: TypeAlias = Callable[[JsonObject], None]
Kind: TypeAlias = Callable[[Path, JsonObject, Progress], JsonObject]


def create(home: Path, args: JsonObject, progress: Progress) -> JsonObject:
    """Builds the model `name` from the create request `request`."""
    from qm.modelfiles.build.create import create as build  # noqa: PLC0415
    from qm.modelfiles.build.weights import Origin, is_computed  # noqa: PLC0415
    from qm.modelfiles.create_request import from_create_request  # noqa: PLC0415
    from qm.store.name import Name  # noqa: PLC0415
    from qm.store.store import open_store  # noqa: PLC0415

    spec = from_create_request(args["request"])
    if is_computed(spec):
        stand_back()
    fresh = args["request"].get("no_cache") is True
    origin = Origin(**args.get("origin", {}))
    name, store = Name.parse(args["name"]), open_store(home)
    room = None
    if "machine" in args:
        from .building import build_room  # noqa: PLC0415

        room = build_room(args["machine"])
    build(store, name, spec, progress, fresh=fresh, origin=origin, room=room)
    return {"status": "success"}


def fetch(home: Path, args: JsonObject, progress: Progress) -> JsonObject:
    """Brings what a build needs of the hub's repository `reference`: its `part`."""
    from qm.modelfiles.build.fetch import fetch_sources  # noqa: PLC0415
    from qm.store.store import open_store  # noqa: PLC0415

    store, wanted = open_store(home), {key: args[key] for key in ("part", "full", "pickles")}
    return fetch_sources(store, args["reference"], progress, **wanted)


def adopt(home: Path, args: JsonObject, progress: Progress) -> JsonObject:
    """Takes the GGUF file at `path` into the store."""
    from qm.store.store import open_store  # noqa: PLC0415

    def on_progress(completed: int, total: int) -> None:
        progress({"status": "adopting file", "completed": completed, "total": total})

    adoption = open_store(home).blobs.adopt(Path(args["path"]), on_progress=on_progress)
    return {
        "status": "success",
        "digest": adoption.digest,
        "size": adoption.size_bytes,
        "how": str(adoption.how),
    }


def evaluate(home: Path, args: JsonObject, progress: Progress) -> JsonObject:
    """Measures `model`, beside `base` and over the blob `text` where they are given."""
    from qm.modelfiles.build.measure import Over, measure  # noqa: PLC0415
    from qm.store.name import Name  # noqa: PLC0415
    from qm.store.store import open_store  # noqa: PLC0415

    stand_back()
    base = Name.parse(args["base"]) if args.get("base") else None
    name = Name.parse(args["model"])
    over = Over(args.get("text", ""), args.get("chunks") or None)
    quality = measure(open_store(home), name, base, over, progress)
    return {"status": "success", "quality": quality.to_json()}


def compare(home: Path, args: JsonObject, progress: Progress) -> JsonObject:
    """Measures `base` and `models` over the blob `text`, over at most `chunks` of it."""
    from qm.modelfiles.build.measure import Over  # noqa: PLC0415
    from qm.modelfiles.build.measure import compare as measure  # noqa: PLC0415
    from qm.store.name import Name  # noqa: PLC0415
    from qm.store.store import open_store  # noqa: PLC0415

    stand_back()
    base, names = Name.parse(args["base"]), [Name.parse(each) for each in args["models"]]
    over = Over(args.get("text", ""), args.get("chunks") or None)
    measured = measure(open_store(home), base, names, over, progress)
    qualities = {name: quality.to_json() for name, quality in measured.items()}
    return {"status": "success", "qualities": qualities}


def rebuild(home: Path, args: JsonObject, progress: Progress) -> JsonObject:
    """Does every step of `model` anew and tells whether the same came out."""
    from qm.modelfiles.build.rebuild import rebuild as again  # noqa: PLC0415
    from qm.store.name import Name  # noqa: PLC0415
    from qm.store.store import open_store  # noqa: PLC0415

    stand_back()
    checked = again(open_store(home), Name.parse(args["model"]), progress)
    steps = [
        {
            "kind": each.record.kind,
            "same": each.same,
            "recorded": {"tool": each.record.tool, "output": each.record.output},
            "rebuilt": {"tool": each.tool, "output": each.output},
        }
        for each in checked
    ]
    return {"status": "success", "same": all(each.same for each in checked), "steps": steps}


def verify(home: Path, args: JsonObject, progress: Progress) -> JsonObject:
    """Reads back the blobs of `model`, or of the whole store."""
    from qm.store.name import Name  # noqa: PLC0415
    from qm.store.store import open_store  # noqa: PLC0415
    from qm.store.verify import verify_store  # noqa: PLC0415

    def on_progress(completed: int, total: int) -> None:
        progress({"status": "verifying", "completed": completed, "total": total})

    name = Name.parse(args["model"]) if "model" in args else None
    verified = verify_store(open_store(home), name, on_progress=on_progress)
    return {
        "status": "success",
        "checked": verified.checked,
        "bad": [
            {"digest": one.digest, "models": list(one.models), "reason": one.reason}
            for one in verified.bad
        ],
        "unreadable": [
            {"path": str(one.path), "reason": one.reason} for one in verified.unreadable
        ],
    }


def repair(home: Path, args: JsonObject, progress: Progress) -> JsonObject:
    """As `verify`, and what is bad is fetched again from where it came from."""
    from qm.store.errors import QmError  # noqa: PLC0415
    from qm.store.pull.repair import repair as mend  # noqa: PLC0415
    from qm.store.store import open_store  # noqa: PLC0415

    result, store = verify(home, args, progress), open_store(home)
    for one in result["bad"]:
        digest = one["digest"]

        def tell(completed: int, digest: str = digest) -> None:
            shown = digest.removeprefix("sha256:")[:12]
            progress({"status": f"repairing {shown}", "digest": digest, "completed": completed})

        try:
            mend(store, digest, tell)
        except QmError as error:
            one["reason"] += f"; not repaired: {error.message}"
        else:
            one["repaired"] = True
    repaired = [one for one in result["bad"] if one.get("repaired")]
    return result | {
        "bad": [one for one in result["bad"] if not one.get("repaired")],
        "repaired": repaired,
    }


def pull(home: Path, args: JsonObject, progress: Progress) -> JsonObject:
    """Fetches the model `model` from the Hugging Face hub, or from a `registry`."""
    from qm.store.store import open_store  # noqa: PLC0415

    store = open_store(home)
    progress({"status": "pulling manifest"})
    fetch = _pull_image if "registry" in args else _pull_repository
    fetch(store, args, progress)
    return {"status": "success"}


def peek(home: Path, args: JsonObject, progress: Progress) -> JsonObject:
    """What placement must know of the model `model` of the hub, without fetching it."""
    import msgspec  # noqa: PLC0415
    from qm.store.pull.peek import peek as look  # noqa: PLC0415
    from qm.store.pull.reference import parse_reference  # noqa: PLC0415

    from .facts import model_facts  # noqa: PLC0415

    progress({"status": "reading headers"})
    seen = look(parse_reference(args["model"]))
    first, *others = seen.headers
    facts = model_facts(first, extra_bytes=seen.projector_bytes, parts=others)
    return {
        "facts": msgspec.to_builtins(facts),
        "size": seen.size_bytes,
        "quant": seen.quant,
        "read_bytes": seen.read_bytes,
    }


def _pull_repository(store: Store, args: JsonObject, progress: Progress) -> None:
    from qm.store.pull.freshness import is_current  # noqa: PLC0415
    from qm.store.pull.reference import parse_reference  # noqa: PLC0415

    reference = parse_reference(args["model"])
    if is_current(store, reference):
        return
    from qm.modelfiles.build.pull import pull as fetch  # noqa: PLC0415

    from .hardware import read_machine  # noqa: PLC0415

    memory_bytes = read_machine().available_bytes
    fetch(store, reference, progress, limits=_limits(args), memory_bytes=memory_bytes)


def _pull_image(store: Store, args: JsonObject, progress: Progress) -> None:
    from qm.store.name import Name  # noqa: PLC0415
    from qm.store.pull.present import is_current_image  # noqa: PLC0415

    name, endpoint = Name.parse(args["model"]), _endpoint(args["registry"])
    if is_current_image(store, endpoint, name):
        return
    from qm.store.pull.oci import pull_image  # noqa: PLC0415

    pull_image(store, endpoint, name, progress, limits=_limits(args))


def _limits(args: JsonObject) -> Limits:
    from qm.store.pull.download import Limits  # noqa: PLC0415
    from qm.store.pull.throttle import Throttle  # noqa: PLC0415

    return Limits(throttle=Throttle(args.get("limit_rate")))


def push(home: Path, args: JsonObject, progress: Progress) -> JsonObject:
    """Sends the model `model` to a `registry`, under the name `target`."""
    from qm.store.name import Name  # noqa: PLC0415
    from qm.store.pull.push import push_image  # noqa: PLC0415
    from qm.store.store import open_store  # noqa: PLC0415

    name, target = Name.parse(args["model"]), Name.parse(args["target"])
    push_image(open_store(home), _endpoint(args["registry"]), name, target, progress)
    return {"status": "success"}


def _endpoint(registry: JsonObject) -> Endpoint:
    from qm.store.pull.registry import Endpoint  # noqa: PLC0415

    auth_file = Path(registry["auth_file"]) if registry["auth_file"] else None
    return Endpoint(registry["url"], trusted=registry["trusted"], auth_file=auth_file)


def import_models(home: Path, args: JsonObject, progress: Progress) -> JsonObject:
    """Takes in the models that lie below `paths`; each has an outcome of its own."""
    from dataclasses import asdict  # noqa: PLC0415

    from qm.modelfiles.build.importing import Wishes, import_models  # noqa: PLC0415
    from qm.store.name import Name  # noqa: PLC0415
    from qm.store.store import open_store  # noqa: PLC0415

    name = Name.parse(args["name"]) if args.get("name") else None
    wishes = Wishes(dry_run=args["dry_run"], copy=args["copy"], name=name)
    paths = [Path(path) for path in args["paths"]]
    models = import_models(open_store(home), paths, wishes, progress)
    return {"status": "success", "models": [asdict(model) for model in models]}


def export(home: Path, args: JsonObject, progress: Progress) -> JsonObject:
    """Writes the model `model` to `path`: its files, or a store for Ollama."""
    from qm.modelfiles.build.exporting import export_files, export_store  # noqa: PLC0415
    from qm.store.name import Name  # noqa: PLC0415
    from qm.store.store import open_store  # noqa: PLC0415

    write = export_store if args["ollama"] else export_files
    done = write(open_store(home), Name.parse(args["model"]), Path(args["path"]), progress)
    return {
        "status": "success",
        "paths": [str(path) for path in done.paths],
        "size": done.size_bytes,
    }


def move(home: Path, args: JsonObject, progress: Progress) -> JsonObject:
    """Brings the store's files to `path`; the daemon makes the switch."""
    from qm.store.move import begin, bring  # noqa: PLC0415

    def on_progress(completed: int, total: int) -> None:
        progress({"status": "moving", "completed": completed, "total": total})

    progress({"status": "moving"})
    bring(begin(home, Path(args["path"])), on_progress)
    return {"status": "success"}


KINDS: dict[str, Kind] = {
    "create": create,
    "adopt": adopt,
    "compare": compare,
    "evaluate": evaluate,
    "fetch": fetch,
    "verify": verify,
    "repair": repair,
    "import": import_models,
    "export": export,
    "move": move,
    "pull": pull,
    "rebuild": rebuild,
    "peek": peek,
    "push": push,
}
