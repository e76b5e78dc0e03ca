"""Models as Anthropic's clients read them."""

from __future__ import annotations

from qm.store.manifests import StoredManifest

from ..chat.request import JsonObject
from .ollama_answer import timestamp

VERSION_HEADER = "Anthropic-Version"  # every client of Anthropic's sends it, and no other


def models_document(stored: list[StoredManifest]) -> JsonObject:
    """The list of models as Anthropic's clients read it: one page."""
    rows = [model_document(each) for each in stored]
    ends: JsonObject = {"first_id": None, "last_id": None}
    if rows:
        ends = {"first_id": rows[0]["id"], "last_id": rows[-1]["id"]}
    return {"data": rows, "has_more": False} | ends


def model_document(stored: StoredManifest) -> JsonObject:
    return {
        "type": "model",
        "id": str(stored.name),
        "display_name": stored.name.short,
        "created_at": timestamp(int(stored.modified_s * 1e9)),
    }
