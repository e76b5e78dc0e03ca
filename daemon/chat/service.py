"""Answers a `Request`: the model, a runner for it, the rendered prompt, and the events.

model → options → runner → prompt → frames → events
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import chain

from qm.modelfiles.model import Model
from qm.modelfiles.models import Models
from qm.modelfiles.template import Syntax, Template
from qm.store.errors import InvalidRequest
from qm.store.name import Name
from qm.store.store import Store

from ..meter import Meter
from ..runner.failures import GenerateFailed
from ..runner.process import GenerateEvent
from ..runner.wire import Evaluated, Generate, Loaded, Options
from ..supervisor import Supervisor
from ..ticket import Use
from . import capabilities
from .another import TRIES, Told, attempt
from .conversation import (
    before_answer,
    conversation,
    cut_at,
    easier,
    places_to_cut,
    template_context,
    without_template,
)
from .options import chosen, completed, may_shift
from .output import OutputShape, output_shape
from .pictures import marked, marker, pictures
from .reading import AnswerReader
from .render import Renderer, TemplateRefused
from .request import (
    Delta,
    Event,
    Finished,
    FinishReason,
    Message,
    Metrics,
    Request,
    Started,
)
from .telling import as_wanted


class PromptTooLong(InvalidRequest):
    """The prompt has more tokens than the context; both counts are told."""

    code = "prompt_too_long"

    def __init__(
        self, prompt_tokens: int, n_ctx: int, *, field: str, at_least: bool = False
    ) -> None:
        super().__init__(
            f"the prompt has {'at least ' * at_least}{prompt_tokens} tokens, "
            f"more than the context of {n_ctx} tokens; shorten it, raise num_ctx, or set truncate"
        )
        self.prompt_tokens = prompt_tokens
        self.n_ctx = n_ctx
        self.field = field


@dataclass(frozen=True, slots=True)
class Work:
    """One request on its way: what holds for it, and the runner that does it.

    `options` is complete: what nobody set is as it is by default.
    """

    request: Request
    model: Model
    template: Template | None
    options: Options
    use: Use
    started_ns: int
    shape: OutputShape

    @property
    def loaded(self) -> Loaded:
        return self.use.loaded


@dataclass(frozen=True, slots=True)
class Prompt:
    """What goes to the runner. `tokens` wins over `text` when given."""

    text: str = ""
    tokens: tuple[int, ...] | None = None
    turns: tuple[Message, ...] = ()
    truncate: bool = False
    images: tuple[bytes, ...] = ()
    image_marker: str = ""


class ChatService:
    """Every generation of every dialect goes through here."""

    def __init__(
        self,
        store: Store,
        models: Models,
        supervisor: Supervisor,
        renderer: Renderer,
        meter: Meter,
    ) -> None:
        self._meter = meter
        self._store = store
        self._models = models
        self._supervisor = supervisor
        self._renderer = renderer

    async def answer(self, request: Request) -> AsyncGenerator[Event]:
        """The events of one request, `Finished` last. Closing the generator stops the runner."""
        started_ns = time.monotonic_ns()
        name = Name.parse(request.model)
        if request.load_only and request.keep_alive_s == 0:
            yield await self._unload(name)
            return
        model = await self._models.model(name)
        capabilities.check(request, model.name, model.capabilities)
        options, told = chosen(model.parameters, request.options), Told()
        for last in TRIES:
            async with (
                self._supervisor.use(
                    model, wishes=options, keep_alive_s=request.keep_alive_s, client=request.client
                ) as use,
                attempt(use, told, last=last),
            ):
                if request.load_only:
                    yield Finished(FinishReason.LOAD)
                    return
                work = _work(request, model, options, use, started_ns)
                watch = self._meter.watch(str(model.name))
                async with aclosing(self._answer(work)) as events:
                    async for event in events:
                        watch.saw(event)
                        if told.adds(event):
                            yield event
                return

    async def capabilities(self, model: str) -> tuple[str, ...]:
        """What the model of this name can do. Raises ModelNotFound."""
        return (await self._models.model(Name.parse(model))).capabilities

    async def count_tokens(self, request: Request) -> int:
        """How many tokens the prompt of `request` has. Nothing is generated."""
        rendered = replace(request, render_only=True)
        async with aclosing(self.answer(rendered)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    return event.metrics.prompt_tokens
        raise AssertionError("every answer ends with Finished")

    async def _unload(self, name: Name) -> Finished:
        stored = await asyncio.to_thread(self._store.manifests.read, name)
        await self._supervisor.unload(str(stored.name))
        return Finished(FinishReason.UNLOAD)

    async def _answer(self, work: Work) -> AsyncGenerator[Event]:
        prompt = await self._prompt(work)
        if work.request.render_only:
            metrics = Metrics(prompt_tokens=await _count(work, prompt))
            yield Finished(FinishReason.STOP, metrics, rendered=prompt.text)
            return
        echo = await _echo(work) if work.request.echo else ""
        frames, counted = await self._begin(work, prompt)
        reader = _reader(work, prompt, counted)
        async with aclosing(frames):
            yield Started(counted.prompt_tokens, work.options)
            if work.request.echo:
                yield Delta(echo)
            async for frame in frames:
                for event in reader.read(frame):
                    yield event
                    if isinstance(event, Finished):
                        return

    async def _begin(
        self, work: Work, prompt: Prompt
    ) -> tuple[AsyncGenerator[GenerateEvent], Evaluated]:
        """The frames after the prompt was counted, of a shorter conversation where need be."""
        try:
            return await _first_frame(work, prompt)
        except GenerateFailed as error:
            if error.reason != PromptTooLong.code:
                raise
            limit = error.facts.get("n_ctx", work.loaded.n_ctx)
            if not work.request.truncate or not prompt.turns:
                raise _too_long(error, limit, work.request) from error
        return await _first_frame(work, await self._shortened(work, prompt, limit))

    async def _shortened(self, work: Work, prompt: Prompt, limit: int) -> Prompt:
        """The longest rest of the conversation that fits; the last turn alone if none does.

        The search halves what is left, since each try costs a rendering.
        """
        places, found = places_to_cut(prompt.turns)[-limit:], prompt  # a turn has a token at least
        low, high = 0, len(places)
        while low < high:
            middle = (low + high) // 2
            tried = await self._render(work, cut_at(prompt.turns, places[middle]))
            fits = await _count(work, tried) < limit
            if fits or middle == len(places) - 1:
                found = tried
            low, high = (low, middle) if fits else (middle + 1, high)
        return replace(found, truncate=True)

    async def _prompt(self, work: Work) -> Prompt:
        request = work.request
        if request.tokens is not None:
            return Prompt(tokens=request.tokens, truncate=request.truncate)
        if request.raw or (request.suffix and not _renders_suffix(work.template)):
            text = request.prompt or ""
            return Prompt(text, truncate=request.truncate, images=request.images)
        preset = () if request.context else work.model.messages
        turns = conversation(
            request, work.model.system, [Message(turn.role, turn.content) for turn in preset]
        )
        prompt = await self._render(work, turns)
        if request.context and not request.render_only:
            tokens = await work.use.runner.tokenize(prompt.text)
            return replace(prompt, tokens=(*request.context, *tokens))
        return prompt

    async def _render(self, work: Work, turns: Sequence[Message]) -> Prompt:
        """The prompt of these turns. Only a chat can be shortened turn by turn."""
        request, loaded = work.request, work.loaded
        told, begun = before_answer(request, turns) if work.shape.can_continue else (turns, "")
        images = pictures(told)
        mark = marker(images)
        shown = marked(told, mark)
        if work.template is None:
            text = without_template(marked(turns, mark))
        else:
            text = await self._said(work, work.template, shown) + work.shape.prefill
            text = work.shape.continued(text, begun)
        if loaded.add_bos and loaded.bos:
            text = text.removeprefix(loaded.bos)  # the tokenizer adds it
        if request.messages is None:
            return Prompt(text, truncate=request.truncate, images=images, image_marker=mark)
        return Prompt(text, turns=tuple(turns), images=images, image_marker=mark)

    async def _said(self, work: Work, template: Template, turns: Sequence[Message]) -> str:
        """The turns in the words of a template, in the first way of telling that it takes."""
        refusal: TemplateRefused | None = None
        for told in chain((turns,), easier(turns)):
            context = template_context(work.request, told, bos=work.loaded.bos, eos=work.loaded.eos)
            if template.kind is Syntax.JINJA:
                context = as_wanted(context, template.text)
            try:
                return await self._renderer.render(template.text, template.kind, context)
            except TemplateRefused as error:
                refusal = refusal or error
        assert refusal is not None
        raise refusal


def _work(request: Request, model: Model, options: Options, use: Use, started_ns: int) -> Work:
    template = Template.of(request.template) if request.template else model.template
    shape = output_shape(request, template, thinks=_may_think(request, model))
    return Work(request, model, template, completed(options), use, started_ns, shape)


async def _first_frame(
    work: Work, prompt: Prompt
) -> tuple[AsyncGenerator[GenerateEvent], Evaluated]:
    frames = work.use.runner.generate(_generate(work, prompt), work.use.release)
    try:
        counted = await anext(frames)
    except BaseException:
        await frames.aclose()
        raise
    assert isinstance(counted, Evaluated), counted
    return frames, counted


async def _count(work: Work, prompt: Prompt) -> int:
    return await work.use.runner.count(prompt.text, prompt.images, prompt.image_marker)


async def _echo(work: Work) -> str:
    """The prompt as text."""
    tokens = work.request.tokens
    if tokens is None:
        return work.request.prompt or ""
    return await work.use.runner.detokenize(tokens, special=True)


def _too_long(error: GenerateFailed, limit: int, request: Request) -> PromptTooLong:
    counted, at_least = error.facts.get("prompt_tokens", 0), error.facts.get("at_least", 0)
    field = "prompt" if request.messages is None else "messages"
    return PromptTooLong(counted, limit, field=field, at_least=bool(at_least))


def _reader(work: Work, prompt: Prompt, counted: Evaluated) -> AnswerReader:
    return AnswerReader(
        work.shape.parser(work.request, prompt.text),
        counted,
        work.started_ns,
        work.use.load_ns,
        one_call=not work.request.parallel_calls,
    )


def _generate(work: Work, prompt: Prompt) -> Generate:
    request, options = work.request, work.options
    suffix = request.suffix if request.suffix and not _renders_suffix(work.template) else None
    constraint = request.format
    shape = work.shape
    thinks = shape.thinks and request.think is not False
    schema = shape.schema(request)
    return Generate(
        id=0,
        options=options,
        prompt=prompt.text,
        tokens=prompt.tokens,
        images=prompt.images,
        image_marker=prompt.image_marker,
        json_schema=None if schema is None else json.dumps(schema),
        grammar=constraint.grammar if constraint else options.grammar or None,
        constrain_after=shape.tags.end if thinks else None,
        reasoning_start="" if _opened(work, prompt) else shape.tags.start,
        special=shape.control_tokens,
        logprobs=request.top_logprobs if request.logprobs else -1,
        truncate=prompt.truncate,
        shift=may_shift(options, request.shift),
        return_context=request.prompt is not None and not (request.raw or prompt.images),
        suffix=suffix,
        client=request.client,
        score_prompt=request.echo and request.logprobs,
    )


def _renders_suffix(template: Template | None) -> bool:
    return template is not None and template.has_suffix


def _may_think(request: Request, model: Model) -> bool:
    return not request.raw and "thinking" in model.capabilities


def _opened(work: Work, prompt: Prompt) -> bool:
    """Whether the answer begins inside the model's reasoning."""
    return prompt.text.rstrip().endswith(work.shape.tags.start)
