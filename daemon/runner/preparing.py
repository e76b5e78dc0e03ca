"""Makes what the daemon asks for ready for the engine: tokens, sampler chains, constraints."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import msgspec

from . import cells, wire
from .constraints import Constraints
from .embedding import EmbedWork
from .llama_error import LlamaError
from .media import Media, Projector
from .ranking import Pair
from .reasoning import Reasoning, most_reasoning
from .sampling import Sampler
from .scoring import scoring_of
from .sequence import Sequence, cut_middle, predict_limit
from .structured import ConstrainedSampler
from .text import AnswerText
from .vocabulary import Vocabulary

_FEWEST_CTX = 4  # as few tokens as a model is loaded with
_SELDOM_LONGER_BYTES = 16  # than a token is, on average, no text is


@dataclass(frozen=True, slots=True)
class Ready:
    """What must be known of the loaded model."""

    vocabulary: Vocabulary
    limit: int  # tokens that one sequence may hold
    embeds: bool
    rank_template: str  # how a query and a text become one input; "" for the common way
    constraints: Constraints
    projector: Projector | None = None

    def within(self, n_ctx: int | None) -> Ready:
        """The same for a request that asked for a context that may be smaller than what there is.

        What it may hold must not depend on who loaded the model before.
        """
        limit = max(n_ctx or self.limit, _FEWEST_CTX)
        return replace(self, limit=limit) if limit < self.limit else self

    def takes_long(self, message: wire.Generate) -> bool:
        """Whether something must be compiled for it."""
        return not self.constraints.known(message)

    def work(
        self, message: wire.Generate | wire.Embed | wire.Tokenize | wire.Detokenize
    ) -> Sequence | EmbedWork | wire.FromRunner:
        """What the engine is to do for `message`, or the answer to it. Raises LlamaError."""
        match message:
            case wire.Generate():
                return generation(message, self)
            case wire.Embed():
                return embedding(message, self)
            case wire.Tokenize() if message.images:
                return wire.Tokens(message.id, _with_images(message, self))
            case wire.Tokenize():
                tokens = self.vocabulary.tokenize(
                    message.text,
                    add_special=message.add_special,
                    parse_special=message.parse_special,
                )
                return wire.Tokens(message.id, tuple(tokens))
            case wire.Detokenize():
                self.vocabulary.check(message.tokens)
                pieces = (self.vocabulary.piece(token, message.special) for token in message.tokens)
                return wire.Text(message.id, b"".join(pieces).decode(errors="replace"))


def generation(request: wire.Generate, ready: Ready) -> Sequence | wire.Failed:
    """A request that the engine can start on at once, or why it can't be."""
    if ready.embeds:
        raise LlamaError("unsupported", "the model is loaded for embeddings; it can't generate")
    ready = ready.within(request.options.num_ctx)
    least = fewest_tokens(request, ready)
    if least >= ready.limit:
        if not request.truncate or request.images:
            return too_long(request.id, least, ready.limit, at_least=True)
        request = _without_middle(request, ready)
    tokens, media = _parsed(request, ready)
    extra = cells.beyond(tokens) if media else 0
    if len(tokens) + extra >= ready.limit:
        if not request.truncate or media:
            return too_long(request.id, len(tokens) + extra, ready.limit)
        keep = len(tokens) if (request.options.num_keep or 0) < 0 else request.options.num_keep or 0
        tokens = cut_middle(tokens, ready.limit, keep + int(ready.vocabulary.add_bos))
    return Sequence(
        request=request,
        tokens=tokens,
        sampler=_sampler(request, tokens, ready),
        limit=ready.limit - extra,
        arrived_ns=time.perf_counter_ns(),
        text=AnswerText(request.options.stop or ()),
        n_prompt=len(tokens) + extra,
        n_predict=predict_limit(request.options, ready.limit),
        media=media,
        scoring=scoring_of(request, tokens, ready.vocabulary),
    )


def _parsed(request: wire.Generate, ready: Ready) -> tuple[list[int], Media | None]:
    """The prompt's tokens, and what in it is no text."""
    if not request.images:
        return _prompt(request, ready.vocabulary), None
    if ready.projector is None:
        raise LlamaError("unsupported", "this model has no projector to read images with")
    marker, n_images = request.image_marker, len(request.images)
    texts = request.prompt.split(marker) if marker else [""] * n_images + [request.prompt]
    if len(texts) != n_images + 1:
        raise LlamaError("bad_option", f"the template has no place for {n_images} images")
    texts[-1] = texts[-1] or "\n"  # an answer follows text
    return ready.projector.parse(texts, request.images, add_special=True)


def _with_images(message: wire.Tokenize, ready: Ready) -> tuple[int, ...]:
    """The tokens of a prompt, -1 for each of an image: just as many as its generation counts."""
    prompt = wire.Generate(
        message.id,
        wire.Options(),
        message.text,
        images=message.images,
        image_marker=message.image_marker,
    )
    tokens, media = _parsed(prompt, ready)
    if media is not None:
        media.free()
    return (*(max(token, -1) for token in tokens), *[-1] * cells.beyond(tokens))


def _sampler(
    request: wire.Generate, prompt: list[int], ready: Ready
) -> Sampler | ConstrainedSampler:
    matcher = ready.constraints.matcher(request)
    sampler = Sampler(request.options, ready.vocabulary, ready.limit)
    sampler.prime(prompt)
    if matcher is None:
        return sampler
    reasoning = None
    if closing := request.constrain_after:
        most = most_reasoning(request.options.num_predict, ready.limit - len(prompt))
        reasoning = Reasoning(request.reasoning_start, closing, most)
    return ConstrainedSampler(
        sampler, matcher, ready.constraints.candidates, ready.vocabulary, reasoning
    )


def fewest_tokens(request: wire.Generate, ready: Ready) -> int:
    """At least so many tokens the prompt has; 0 where it may well fit.

    Some tokenizers take minutes for texts of megabytes, and nobody can stop them.
    """
    n_bytes = len(request.prompt) if request.tokens is None else 0  # or more
    if n_bytes < ready.limit * _SELDOM_LONGER_BYTES:
        return 0
    return n_bytes // ready.vocabulary.longest_bytes


def _without_middle(request: wire.Generate, ready: Ready) -> wire.Generate:
    """Both ends of the text, each more than fits: the same tokens are left in the end."""
    enough = ready.limit * ready.vocabulary.longest_bytes
    ends = request.prompt[:enough] + request.prompt[-enough:]
    return msgspec.structs.replace(request, prompt=ends)


def too_long(request_id: int, n_prompt: int, limit: int, *, at_least: bool = False) -> wire.Failed:
    """The refusal of a prompt that leaves no room for an answer."""
    text = f"the prompt has {n_prompt} tokens, but the context holds {limit} with the answer"
    facts = {"prompt_tokens": n_prompt, "n_ctx": limit, "at_least": int(at_least)}
    return wire.Failed(request_id, "prompt_too_long", text, facts)


def _input_too_long(request_id: int, index: int, n_tokens: int, limit: int) -> wire.Failed:
    text = f"input {index} has {n_tokens} tokens, but the model takes {limit} at most"
    facts = {"index": index, "tokens": n_tokens, "limit": limit}
    return wire.Failed(request_id, "prompt_too_long", text, facts)


def embedding(request: wire.Embed, ready: Ready) -> EmbedWork | wire.Failed:
    """Inputs cut to what fits one sequence, or a refusal."""
    if not ready.embeds:
        raise LlamaError("unsupported", "this model does not support embeddings")
    vocabulary = ready.vocabulary
    for tokens in request.tokens:
        vocabulary.check(tokens)
    end: list[int] = []
    if request.rerank_query is None:
        inputs = [
            vocabulary.tokenize(text, add_special=True, parse_special=False)
            for text in request.texts
        ] + [list(tokens) for tokens in request.tokens]
    else:
        pair = Pair(request.rerank_query, vocabulary, ready.rank_template)
        inputs, end = [pair.tokens(text) for text in request.texts], pair.end()
    if not request.truncate:
        for index, n_tokens in enumerate(map(len, inputs)):
            if n_tokens > ready.limit:
                return _input_too_long(request.id, index, n_tokens, ready.limit)
    return EmbedWork(request, tuple(_cut_end(tokens, ready.limit, end) for tokens in inputs))


def _cut_end(tokens: list[int], limit: int, end: list[int]) -> list[int]:
    """At most `limit` tokens; the `end` is kept, or the last, since it often is the separator."""
    if len(tokens) <= limit:
        return tokens
    kept = (end or tokens)[-min(len(end) or 1, limit) :]
    return [*tokens[: limit - len(kept)], *kept]


def _prompt(request: wire.Generate, vocabulary: Vocabulary) -> list[int]:
    if request.tokens is not None:
        vocabulary.check(request.tokens)
        tokens = list(request.tokens)
    elif request.suffix is not None:
        tokens = _infill(request.prompt, request.suffix, vocabulary)
    else:
        tokens = vocabulary.tokenize(request.prompt, add_special=True, parse_special=True)
        # Templates write the first token themselves, and the vocabulary adds it again.
        if vocabulary.add_bos and tokens[:2] == [vocabulary.bos] * 2:
            del tokens[0]
    if tokens:
        return tokens
    first = vocabulary.bos if vocabulary.bos >= 0 else vocabulary.eos
    if first < 0:
        raise LlamaError("bad_option", "the prompt is empty and this model can't start from that")
    return [first]


def _infill(before: str, after: str, vocabulary: Vocabulary) -> list[int]:
    if not vocabulary.has_fim:
        raise LlamaError("unsupported", "this model has no tokens for filling in the middle")
    start = [vocabulary.bos] if vocabulary.add_bos else []
    return [
        *start,
        vocabulary.fim_pre,
        *vocabulary.tokenize(before, add_special=False, parse_special=False),
        vocabulary.fim_suf,
        *vocabulary.tokenize(after, add_special=False, parse_special=False),
        vocabulary.fim_mid,
    ]
