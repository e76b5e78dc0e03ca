"""The store's safeguards, each with what it takes to remove it and the tests that must notice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """One safeguard less: `text` of `file` becomes `instead`; these `tests` must fail."""

    name: str
    file: str
    text: str
    instead: str
    tests: str


MUTANTS = (
    Mutant(
        "a download is published without looking at its digest",
        "store/pull/download.py",
        "        if not sound:\n",
        "        if False:\n",
        "tests/store/pull/test_fetch.py",
    ),
    Mutant(
        "what a journal says of another boot is believed",
        "store/pull/partial.py",
        'same_boot = bool(boot) and lines[0].get("boot") == boot',
        "same_boot = True",
        "tests/store/pull/test_decisions.py",
    ),
    Mutant(
        "beginnings are not compared on resuming",
        "store/pull/front.py",
        "if known not in (None, found):",
        "if False:",
        "tests/store/pull/test_resume.py",
    ),
    Mutant(
        "two processes write one partial file",
        "store/pull/partial.py",
        "if try_lock(fd) and _is_there(path, fd):",
        "if True:",
        "tests/store/pull/test_decisions.py",
    ),
    Mutant(
        "bytes are noted before they are written",
        "store/pull/fetching.py",
        "                self._write(view[:n_bytes], offset)\n                offset += n_bytes\n",
        "                offset += n_bytes\n",
        "tests/store/pull/test_fetch.py",
    ),
    Mutant(
        "a range of other bytes is written where ours belong",
        "store/pull/fetching.py",
        "if match is None or (int(match[1]), int(match[3])) != (task.start, self.work.size_bytes):",
        "if match is None:",
        "tests/store/pull/test_fetch.py",
    ),
    Mutant(
        "the data is not synced before it is published",
        "store/pull/partial.py",
        "            sync_file(self.data_fd)\n",
        "            pass\n",
        "tests/store/pull/test_resume.py",
    ),
    Mutant(
        "a new blob's directory is not synced",
        "store/publish.py",
        "    layout.watch(digest).unlink(missing_ok=True)  # left by an adoption that died before "
        "its link\n    sync_directory(layout.blobs)\n",
        "    layout.watch(digest).unlink(missing_ok=True)\n",
        "tests/store/pull/test_resume.py",
    ),
    Mutant(
        "no lease guards what is being pulled",
        "store/leases.py",
        "            if fd is not None and not try_lock(fd):\n",
        "            if False:\n",
        "tests/store/test_gc.py",
    ),
    Mutant(
        "the token goes wherever the hub sends us",
        "store/pull/hub.py",
        "            return Located(url, {}, xet)\n",
        "            return Located(url, own, xet)\n",
        "tests/store/pull/test_tokens.py",
    ),
    Mutant(
        "the token asks for a pass to xet storage wherever the hub says",
        "store/pull/hub.py",
        "return XetFile(found.file_hash, pass_url) if Origin.of(pass_url) == home else None",
        "return XetFile(found.file_hash, pass_url)",
        "tests/store/pull/test_xet.py",
    ),
    Mutant(
        "what xet storage sends is noted before it is written",
        "store/pull/streaming.py",
        "self.partial.write(memoryview(piece), self._came_bytes, self.label, missing_bytes)",
        "pass",
        "tests/store/pull/test_xet.py",
    ),
    Mutant(
        "what the journal calls synced was not synced",
        "store/pull/download.py",
        "                self._partial.sync()\n                synced_bytes = here.total\n",
        "                synced_bytes = here.total\n",
        "tests/crash/test_pull_powerloss.py",
    ),
    Mutant(
        "a store is moved without looking at what was copied",
        "store/transplant.py",
        "                if hash_file(fd) != digest:\n",
        "                if False:\n",
        "tests/store/test_move.py",
    ),
    Mutant(
        "a store is moved under an upload",
        "store/move.py",
        "        _refuse_busy(move.source)\n",
        "",
        "tests/store/test_move.py",
    ),
    Mutant(
        "an unfinished move is as good as a store",
        "store/location.py",
        "            _refuse_unfinished(root)\n",
        "",
        "tests/store/test_move.py",
    ),
    Mutant(
        "the home's pointer comes before the blobs",
        "store/move.py",
        "        _transplant(move, None).everything(exactly=True)\n"
        "        write_pointer(move.home, move.target.root)\n",
        "        write_pointer(move.home, move.target.root)\n"
        "        _transplant(move, None).everything(exactly=True)\n",
        "tests/store/test_move.py",
    ),
    Mutant(
        "private addresses are as good as public ones",
        "store/pull/addresses.py",
        '        if not allowed:\n            raise _forbidden(url, f"{origin.host} is no public',
        '        if not found:\n            raise _forbidden(url, f"{origin.host} is no public',
        "tests/store/pull/test_addresses.py",
    ),
    Mutant(
        "a blob's bytes are not synced",
        "store/writer.py",
        "            os.fchmod(self._fd, _BLOB_MODE)\n            sync_file(self._fd)\n",
        "            os.fchmod(self._fd, _BLOB_MODE)\n",
        "tests/crash/test_powerloss.py",
    ),
    Mutant(
        "a manifest's bytes are not synced",
        "store/durable.py",
        "            write_all(fd, data)\n            sync_file(fd)\n",
        "            write_all(fd, data)\n",
        "tests/crash/test_powerloss.py",
    ),
    Mutant(
        "a manifest's directory is not synced",
        "store/durable.py",
        "len(data)) from error\n    sync_directory(path.parent)\n",
        "len(data)) from error\n",
        "tests/crash/test_powerloss.py",
    ),
    Mutant(
        "a user's file is not synced before it is a blob",
        "store/adopt.py",
        "            sync_file(self.fd)\n",
        "            pass\n",
        "tests/crash/test_strace.py",
    ),
    Mutant(
        "a manifest is written whether or not its blobs are here",
        "store/manifests.py",
        "            self._require_blobs(manifest)\n",
        "",
        "tests/store/test_manifests.py",
    ),
    Mutant(
        "collections do not wait for publishers",
        "store/gc.py",
        "    with collecting(store.layout):\n",
        "    if True:\n",
        "tests/store/test_gc.py",
    ),
    Mutant(
        "collections go on when a manifest is unreadable",
        "store/gc.py",
        "    _refuse_unreadable(unreadable)\n    return",
        "    return",
        "tests/store/test_gc.py",
    ),
    Mutant(
        "what others have open is collected",
        "store/gc.py",
        "opened = {digest for digest in garbage if is_open_elsewhere(store.layout.blob(digest))}",
        "opened = set()",
        "tests/store/test_gc.py",
    ),
    Mutant(
        "what waits for its manifest is collected",
        "store/gc.py",
        "claimed=claimed_digests(store.layout, now_s=now_s)",
        "claimed=frozenset()",
        "tests/store/test_gc.py",
    ),
    Mutant(
        "what is being written is not locked",
        "store/writer.py",
        '    assert try_lock(fd), "only a collector locks others\' files, and it is kept out"\n',
        "",
        "tests/store/test_gc.py",
    ),
    Mutant(
        "the second name of a file that is being adopted is not locked",
        "store/adopt.py",
        "        return try_share(fd)\n",
        "        return True\n",
        "tests/store/test_adopt.py",
    ),
    Mutant(
        "an adopted file is not watched",
        "store/blobs.py",
        "        check_unchanged(self.layout, digest, status, in_place=path.is_symlink())\n",
        "",
        "tests/store/test_adopt.py",
    ),
    Mutant(
        "a damaged blob is as good as a sound one",
        "store/publish.py",
        "        return same_file or hash_file(fd) == digest\n",
        "        return True\n",
        "tests/store/test_blobs.py",
    ),
    Mutant(
        "a range is resumed whatever the file has become",
        "store/pull/fetching.py",
        'headers["If-Range"] = etag',
        "pass",
        "tests/store/pull/test_resume.py",
    ),
)
