"""A stand-in for the Hugging Face hub, on loopback, that misbehaves on request.

It serves a folder of repositories over the calls that download clients make: metadata, listings,
revisions, gated and private repositories, and large files by signed links to a CDN on another host.

    with FakeHub(folder) as hub:
        hub.fault("drop", path="org/tiny/model.gguf", side="cdn", bytes=12_000_000)
        ...                                   # HF_ENDPOINT=hub.url
        assert not any(entry["auth"] for entry in hub.log if entry["side"] == "cdn")

The folder: `org/name/...` holds the files of revision main, `org/name@v1/...` those of another one
(`~` stands for `/` in its name), `org/name/.fakehub.json` what is special about it:

    {"gated": "manual", "private": true, "readers": ["alice"], "renamed_from": ["old/name"],
     "info": {...}}

The tokens `hf_alice` and `hf_bob` are known. Files are read anew at each request: change one, and
the repository has a new commit. `python -m tests.fakehub FOLDER` serves one from a shell.
"""

from .faults import Fault
from .hub import FakeHub

__all__ = ["FakeHub", "Fault"]
