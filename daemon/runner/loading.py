"""Makes loaded weights ready to answer: a context, and the companions that were asked for."""

from __future__ import annotations

import msgspec

from ..companions import companion_device
from . import wire
from .draft import Draft
from .llama import Batch, Context
from .llama_error import LlamaError
from .llama_log import Log
from .measure import buffers, by_device
from .media import Projector
from .weights import Model


def complete(
    request: wire.Load, model: Model, log: Log
) -> tuple[Context, Projector | None, Draft | None, wire.Loaded]:
    """Context, companions and the answer that describes them. Raises LlamaError."""
    if model.is_pair:  # llama.cpp would abort at the first token
        raise LlamaError(
            "load_failed",
            "this model pairs an encoder with a decoder, as T5 does; qm runs models that "
            "are one of these",
        )
    adapters = [model.adapter(path, log) for path in request.adapters]
    context = Context(model, request.placement, log, embedding=request.embedding)
    if adapters:
        context.adapt(adapters)
    if not request.embedding:
        _warm_up(model, context)
    projector = None
    if request.projector:
        projector = Projector(request.projector, model, request.placement, log)
    draft = None
    if request.draft and not request.embedding:
        draft = Draft(request.draft, model, request.placement, log)
    contexts = (context, draft.context) if draft else (context,)
    counted = tuple(one for each in contexts for one in buffers(each.pointer))
    memory = by_device((*counted, *log.beside(companion_device(request.placement))))
    answer = _describe(request, model, context, projector)
    answer = msgspec.structs.replace(answer, memory=memory if counted else log.memory())
    return context, projector, draft, answer


def _warm_up(model: Model, context: Context) -> None:
    """One step on nothing: weights come into memory, and what can't work fails now."""
    batch = Batch(1)
    batch.add_one(max(model.vocabulary.bos, model.vocabulary.eos, 0), 0, 0)
    if context.decode(batch):
        raise LlamaError("load_failed", "the model loads but can't evaluate a token")
    context.clear()


def _describe(
    request: wire.Load, model: Model, context: Context, projector: Projector | None
) -> wire.Loaded:
    vocabulary, placement = model.vocabulary, request.placement
    limit = min(placement.n_ctx_seq or context.n_ctx, context.n_ctx)
    if request.embedding and not context.reads_on:
        limit = min(limit, context.n_ubatch)
    return wire.Loaded(
        id=request.id,
        n_ctx=limit,
        n_ctx_train=model.n_ctx_train,
        n_parallel=placement.n_parallel,
        n_vocab=vocabulary.size,
        n_embd=model.n_embd,
        bos=vocabulary.text(vocabulary.bos),
        eos=vocabulary.text(vocabulary.eos),
        add_bos=vocabulary.add_bos,
        can_shift=context.can_shift,
        can_share=not model.is_recurrent,
        has_fim=vocabulary.has_fim,
        pooling=context.pooling,
        modalities=projector.modalities if projector else (),
        n_ctx_total=context.n_ctx,
    )
