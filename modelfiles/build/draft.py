"""Whether a model's guesses can be another's tokens: both must have the same vocabulary. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qm.store.errors import InvalidRequest

if TYPE_CHECKING:  # a runner that only asks for the number needs no reader of headers
    from qm.store.gguf import Header

MOST_MISSING: Final = 128  # padding at a vocabulary's end differs between sizes of a family


class DraftUnfit(InvalidRequest):
    """The model that DRAFT names can't guess for this one."""

    code = "draft_unfit"


def check_vocabularies(model: Header, draft: Header) -> None:
    """Raises DraftUnfit. The headers were read with their arrays."""
    for key in ("model", "bos_token_id", "eos_token_id"):
        ours, theirs = _field(model, key), _field(draft, key)
        if ours != theirs:
            raise DraftUnfit(
                "the draft model's vocabulary is another one: "
                f"tokenizer.ggml.{key} is {theirs}, the model's is {ours}"
            )
    ours, theirs = _tokens(model), _tokens(draft)
    if not theirs or abs(len(ours) - len(theirs)) > MOST_MISSING:
        raise DraftUnfit(
            f"the draft model has {len(theirs)} tokens, the model {len(ours)}; "
            "a draft must be of the same family"
        )
    for number, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one != other:
            raise DraftUnfit(
                f"the draft model's token {number} is {other!r}, the model's is {one!r}; "
                "a draft must be of the same family"
            )


def _field(header: Header, key: str) -> object:
    return header.metadata.get(f"tokenizer.ggml.{key}")


def _tokens(header: Header) -> tuple[object, ...]:
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    return tuple(tokens) if isinstance(tokens, list | tuple) else ()
