"""What a request asks of a model, held against what the model can."""

from __future__ import annotations

from collections.abc import Collection

from qm.store.errors import InvalidRequest, QmError
from qm.store.name import Name

from .request import Request


class NotCapable(InvalidRequest):
    """The model can't do what the request needs."""

    code = "not_capable"

    def __init__(self, model: str, capability: str) -> None:
        super().__init__(f"{model} does not support {capability}")
        self.capability = capability


class NoEmbeddings(QmError):
    """The model was not made for embeddings; 501 is what Ollama's clients know for that."""

    status = 501
    code = "not_capable"


def check(request: Request, name: Name, capabilities: Collection[str]) -> None:
    """Raises NotCapable, in the words that Ollama's clients know."""
    full = f"{name.host}/{name.namespace}/{name.model}:{name.tag}"
    if "completion" not in capabilities:
        verb = "generate" if request.messages is None else "chat"
        raise NotCapable(f'"{request.model}"', verb)
    if request.suffix and "insert" not in capabilities:
        raise NotCapable(full, "insert")
    if request.tools and "tools" not in capabilities:
        raise NotCapable(full, "tools")
    if request.think and "thinking" not in capabilities:
        raise NotCapable(f'"{request.model}"', "thinking")
    if _has_images(request) and not {"vision", "audio"} & set(capabilities):
        raise NotCapable(full, "images")


def _has_images(request: Request) -> bool:
    return bool(request.images) or any(turn.images for turn in request.messages or ())


def check_embedding(name: Name, capabilities: Collection[str]) -> None:
    """Raises NoEmbeddings."""
    if "embedding" not in capabilities:
        raise NoEmbeddings(f"model '{name.short}' does not support embeddings")
