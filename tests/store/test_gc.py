from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from qm.modelfiles.build.plan import Step, StepKind
from qm.modelfiles.build.step_cache import StepCache
from qm.store import durable, locks
from qm.store.claims import CLAIM_AGE_S
from qm.store.conversations import snapshot_prefix
from qm.store.gc import Collected, GcRefused, Keeper, Roots, collect, mark
from qm.store.image import CONFIG_TYPE, MODEL_TYPE, Descriptor, Manifest
from qm.store.leases import LeaseUnreadable, hold
from qm.store.locks import StoreBusy, collecting, publishing
from qm.store.name import Name
from qm.store.partials import PARTIAL_AGE_S
from qm.store.pull.origin import Origin, write_origin
from qm.store.store import Store, open_store


def later() -> float:
    """A time at which every claim is over."""
    return time.time() + CLAIM_AGE_S + 1


def add_model(store: Store, name: str, *layers: bytes) -> Manifest:
    config = Descriptor(CONFIG_TYPE, store.blobs.put(b"{}"), 2)
    put = (Descriptor(MODEL_TYPE, store.blobs.put(data), len(data)) for data in layers)
    return store.manifests.write(Name.parse(name), Manifest(config, tuple(put))).manifest


def digests(collected: Collected) -> list[str]:
    return [blob.digest for blob in collected.deleted]


def test_mark_splits_what_no_manifest_names() -> None:
    """Pure: presence and reasons in, garbage and keepers out."""
    roots = Roots(frozenset("ab"), leased=frozenset("bc"), claimed=frozenset("cd"))
    assert mark("abcde", roots) == (["e"], {"c": Keeper.LEASE, "d": Keeper.CLAIM})


def test_only_what_nobody_needs_goes(store: Store) -> None:
    """Promise 4: referenced blobs stay, orphans go, and their bytes are counted."""
    manifest = add_model(store, "a", b"weights")
    orphan = store.blobs.put(b"orphan")
    collected = collect(store, now_s=later())
    assert digests(collected) == [orphan]
    assert collected.freed_bytes == 6
    assert {blob.digest for blob in store.blobs.list()} == set(manifest.blobs())
    assert list(store.layout.trash.iterdir()) == []
    assert list(store.layout.claims.iterdir()) == []


def note_origin(store: Store) -> None:
    write_origin(store.layout, "sha256:" + "0" * 64, Origin(1, {}))


def note_step(store: Store) -> None:
    StepCache(store.layout).add(Step(StepKind.CONVERT, "test", {}, {}), "sha256:" + "0" * 64)


def note_others(store: Store) -> None:
    open_store(store.layout.root, [store.layout.root / "other"])


@pytest.mark.parametrize("note", [note_origin, note_step, note_others])
def test_nobody_collects_while_a_record_is_written(
    store: Store, note: Callable[[Store], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its unfinished file looks like one that a dead process left."""
    kept_out = []

    def collector_comes(fd: int) -> None:
        with store.layout.lock.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                kept_out.append(fd)

    monkeypatch.setattr(durable, "sync_file", collector_comes)
    note(store)
    assert len(kept_out) == 1


def test_a_shared_blob_goes_with_its_last_model(store: Store) -> None:
    """A variant keeps what it shares."""
    add_model(store, "a", b"shared", b"own")
    add_model(store, "b", b"shared")
    store.manifests.delete(Name.parse("a"))
    assert collect(store).freed_bytes == 3
    store.manifests.delete(Name.parse("b"))
    assert collect(store).freed_bytes == 6 + 2
    assert store.blobs.list() == []


def test_conversations_go_with_the_weights_that_they_were_about(store: Store) -> None:
    """Not with a name that others share, not in a dry run, and nobody else's."""
    manifest = add_model(store, "a", b"weights")
    add_model(store, "b", b"weights")
    other = add_model(store, "c", b"other")
    paths = [
        store.layout.kv / f"{snapshot_prefix(one.layers[0].digest)}{name}.kv"
        for one, name in ((manifest, "1-1"), (manifest, "1-2"), (other, "1-1"))
    ]
    for path in paths:
        path.write_bytes(b"state")
    store.manifests.delete(Name.parse("a"))
    collect(store)
    store.manifests.delete(Name.parse("b"))
    collect(store, dry_run=True)
    assert all(path.exists() for path in paths)
    collect(store)
    assert [path.exists() for path in paths] == [False, False, True]


def test_a_dry_run_changes_nothing(store: Store) -> None:
    """It tells what would go."""
    orphan = store.blobs.put(b"orphan")
    (store.layout.leases / "dead").write_text("")
    before = sorted(store.layout.root.rglob("*"))
    assert digests(collect(store, dry_run=True, now_s=later())) == [orphan]
    assert sorted(store.layout.root.rglob("*")) == before


def test_an_upload_waits_for_its_manifest(store: Store) -> None:
    """A blob that was just published is claimed, until its model comes or the claim is old."""
    digest = store.blobs.put(b"upload")
    collected = collect(store)
    assert collected.deleted == ()
    assert [(kept.digest, kept.keeper) for kept in collected.kept] == [(digest, Keeper.CLAIM)]
    assert digests(collect(store, now_s=later())) == [digest]


def test_a_reused_orphan_is_claimed_again(store: Store) -> None:
    """Who finds an old blob present may count on it."""
    digest = store.blobs.put(b"upload")
    os.utime(store.layout.claim(digest), (0, 0))
    assert store.blobs.keep(digest)
    assert collect(store).deleted == ()


def test_removing_a_model_frees_its_space_at_once(store: Store) -> None:
    """The claim ended when the manifest came; `only` keeps other orphans out of it."""
    manifest = add_model(store, "a", b"weights")
    other = store.blobs.put(b"other")
    os.utime(store.layout.claim(other), (0, 0))
    store.manifests.delete(Name.parse("a"))
    collected = collect(store, only=manifest.blobs())
    assert set(digests(collected)) == set(manifest.blobs())
    assert store.blobs.has(other)


@pytest.mark.parametrize("data", [b"{", b""])
def test_an_unreadable_manifest_stops_everything(store: Store, data: bytes) -> None:
    """Promise 4: nobody knows what it needs."""
    add_model(store, "a", b"weights")
    orphan = store.blobs.put(b"orphan")
    store.layout.manifest(Name.parse("a")).write_bytes(data)
    with pytest.raises(GcRefused, match="latest") as caught:
        collect(store, now_s=later())
    assert caught.value.status == 409
    assert store.blobs.has(orphan)


def test_a_lease_keeps_a_blob(store: Store) -> None:
    """While the holder lives; digests may be added before the blob is there."""
    with hold(store.layout) as lease:
        first = store.blobs.put(b"first")
        lease.add(first)
        second = f"sha256:{'2' * 64}"
        lease.add(second)
        collected = collect(store, now_s=later())
        assert [(kept.digest, kept.keeper) for kept in collected.kept] == [(first, Keeper.LEASE)]
    assert list(store.layout.leases.iterdir()) == []
    assert digests(collect(store, now_s=later())) == [first]


HOLDER = """
import sys, signal
from pathlib import Path
from qm.store.leases import hold
from qm.store.store import open_store
store = open_store(Path(sys.argv[1]))
with hold(store.layout, sys.argv[2:]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_killed_holders_lease_ends(store: Store) -> None:
    """Kernel locks die with their process; the file that is left means nothing."""
    digest = store.blobs.put(b"leased")
    command = [sys.executable, "-c", HOLDER, str(store.layout.root), digest]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert collect(store, now_s=later()).deleted == ()
        holder.kill()
    assert len(list(store.layout.leases.iterdir())) == 1
    assert digests(collect(store, now_s=later())) == [digest]
    assert list(store.layout.leases.iterdir()) == []


def test_an_unreadable_lease_of_a_living_process_stops_everything(store: Store) -> None:
    """Nobody knows what it needs."""
    orphan = store.blobs.put(b"orphan")
    with hold(store.layout):
        lease = next(store.layout.leases.iterdir())
        lease.write_bytes(b"\xff\n")
        with pytest.raises(LeaseUnreadable):
            collect(store, now_s=later())
    assert store.blobs.has(orphan)


def test_an_open_blob_stays(store: Store) -> None:
    """Promise 4: what somebody reads is not taken away, lease or not."""
    digest = store.blobs.put(b"open")
    if sys.platform != "linux":
        pytest.xfail("only Linux tells who has a file open; leases protect blobs elsewhere")
    with store.blobs.path(digest).open("rb"):
        collected = collect(store, now_s=later())
        assert [(kept.digest, kept.keeper) for kept in collected.kept] == [(digest, Keeper.OPEN)]
    assert digests(collect(store, now_s=later())) == [digest]


def test_an_adopted_file_frees_nothing_while_its_owner_has_it(store: Store, tmp_path: Path) -> None:
    """The user's file stays, and only then its last name counts."""
    source = tmp_path / "a.gguf"
    source.write_bytes(b"GGUF" + bytes(1000))
    adoption = store.blobs.adopt(source)
    collected = collect(store, now_s=later())
    assert digests(collected) == [adoption.digest]
    assert collected.freed_bytes == (0 if adoption.how == "link" else 1004)
    assert source.exists()
    assert list(store.layout.watched.iterdir()) == []


def test_trash_of_a_killed_collection_is_emptied(store: Store) -> None:
    """Whatever came that far was garbage."""
    digest = store.blobs.put(b"garbage")
    store.layout.blob(digest).rename(store.layout.trashed(digest))
    collect(store)
    assert list(store.layout.trash.iterdir()) == []


def test_unfinished_files_expire(store: Store) -> None:
    """Dead writes and second names at once, downloads in a week, what is in use never."""
    partial = store.layout.partial
    now_s = time.time()
    for name in ("write-dead", "replace-dead", "link-dead", "download"):
        (partial / name).write_bytes(b"x")
    (partial / "directory").mkdir()
    (partial / "directory" / "data").write_bytes(b"x")
    with store.blobs.writer() as writer:
        writer.write(b"in use")
        gone = {p.path.name for p in collect(store, now_s=now_s).partials}
        assert gone == {"write-dead", "replace-dead", "link-dead"}
        gone = {p.path.name for p in collect(store, now_s=now_s + PARTIAL_AGE_S + 60).partials}
        assert gone == {"download", "directory"}
        writer.commit()
    assert list(partial.iterdir()) == []


def test_a_collection_waits_for_publishers_but_not_for_ever(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped publisher makes an error, not a hang; two publishers go side by side."""
    monkeypatch.setattr(locks, "WAIT_LIMIT_S", 0.05)
    with publishing(store.layout), publishing(store.layout):
        with pytest.raises(StoreBusy) as caught:
            collect(store)
        assert caught.value.status == 503
    with collecting(store.layout), pytest.raises(StoreBusy):
        store.blobs.put(b"late")
    store.blobs.put(b"now")


SOAK = """
import hashlib, random, sys, time
from pathlib import Path
from qm.store.blobs import BlobMissing
from qm.store.image import CONFIG_TYPE, MODEL_TYPE, Descriptor, Manifest
from qm.store.leases import hold
from qm.store.name import Name
from qm.store.store import open_store
root, me, end = Path(sys.argv[1]), sys.argv[2], time.monotonic() + float(sys.argv[3])
store, rounds, random = open_store(root), 0, random.Random(int(me))
while time.monotonic() < end:
    data = [b"w%d" % random.randrange(4) for _ in range(2)]
    with hold(store.layout) as lease:
        layers = []
        for piece in data:
            digest = "sha256:" + hashlib.sha256(piece).hexdigest()
            lease.add(digest)
            if not store.blobs.has(digest):
                assert store.blobs.put(piece) == digest
            layers.append(Descriptor(MODEL_TYPE, digest, len(piece)))
        config = "sha256:" + hashlib.sha256(b"{}").hexdigest()
        lease.add(config)
        store.blobs.put(b"{}")
        manifest = Manifest(Descriptor(CONFIG_TYPE, config, 2), tuple(layers))
        stored = store.manifests.write(Name.parse("m" + me), manifest)
        for digest in stored.manifest.blobs():
            store.blobs.verify(digest)
    store.manifests.delete(Name.parse("m" + me))
    rounds += 1
print(rounds)
"""


def test_collection_beside_publishing_loses_nothing(tmp_path: Path) -> None:
    """Models come and go, re-using old orphans, while everything unneeded is collected at once."""
    store = open_store(tmp_path)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", SOAK, str(tmp_path), str(number), "3"], stdout=subprocess.PIPE
        )
        for number in range(2)
    ]
    collections = 0
    while any(child.poll() is None for child in children):
        collect(store, now_s=later())  # claims never help: leases alone must do
        collections += 1
    assert [child.returncode for child in children] == [0, 0]
    assert all(int(child.communicate()[0]) > 0 for child in children)
    assert collections > 3
    collect(store, now_s=later())
    assert store.blobs.list() == []


def test_a_blob_that_two_clients_claimed_stays_for_the_second(store: Store) -> None:
    """One creates its model and removes it; the other one's create still finds the blob."""
    digest = store.blobs.put(b"weights")
    assert store.blobs.keep(digest)  # the other client: HEAD or POST of what is there
    name_blob(store, "first", digest)
    removed = store.manifests.delete(Name.parse("first"))
    assert removed is not None
    collect(store, only=removed.manifest.blobs())
    assert store.blobs.has(digest)
    name_blob(store, "second", digest)
    store.manifests.delete(Name.parse("second"))
    collect(store, only=[digest])
    assert not store.blobs.has(digest)


def name_blob(store: Store, name: str, digest: str) -> None:
    """A model of a blob that is here."""
    config = Descriptor(CONFIG_TYPE, store.blobs.put(name.encode()), len(name))
    layer = Descriptor(MODEL_TYPE, digest, store.blobs.size(digest))
    store.manifests.write(Name.parse(name), Manifest(config, (layer,)))


def test_a_copy_ends_nobodys_claim(store: Store) -> None:
    """Whoever copies a model has claimed nothing."""
    digest = add_model(store, "first", b"weights").layers[0].digest
    assert store.blobs.keep(digest)
    store.manifests.copy(Name.parse("first"), Name.parse("copy"))
    for name in ("first", "copy"):
        store.manifests.delete(Name.parse(name))
    collect(store)
    assert store.blobs.has(digest)
