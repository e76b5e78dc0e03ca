"""From a request and its model to what a chat template reads: pure, no process involved."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

from .request import JsonObject, Message, Request, Role, ToolCall

_MERGED_ROLES = (Role.SYSTEM, Role.USER, Role.ASSISTANT)


def conversation(request: Request, system: str, preset: Sequence[Message]) -> tuple[Message, ...]:
    """The turns to render: the model's own first, then the request's.

    `system` is the model's; a request's own system turn or text replaces it.
    """
    if request.messages is not None:
        turns = [*preset, *request.messages]
        own_system = bool(request.messages) and request.messages[0].role == Role.SYSTEM
    else:
        turns = [*preset, Message(Role.USER, request.prompt or "", images=request.images)]
        own_system = False
    if request.system is not None:
        system = request.system
    if system and not own_system:
        turns.insert(0, Message(Role.SYSTEM, system))
    return merge_neighbours(turns)


def merge_neighbours(turns: Sequence[Message]) -> tuple[Message, ...]:
    """Joins neighbouring turns of one role, since many templates refuse them."""
    merged: list[Message] = []
    for turn in turns:
        if merged and _can_join(merged[-1], turn):
            before = merged[-1]
            content = "\n\n".join(text for text in (before.content, turn.content) if text)
            merged[-1] = replace(before, content=content, images=before.images + turn.images)
        else:
            merged.append(turn)
    return tuple(merged)


def _can_join(before: Message, turn: Message) -> bool:
    plain = not (before.tool_calls or turn.tool_calls or before.thinking or turn.thinking)
    return plain and before.role == turn.role and turn.role in _MERGED_ROLES


def before_answer(request: Request, turns: Sequence[Message]) -> tuple[tuple[Message, ...], str]:
    """The turns that an answer follows, and its beginning where the last turn is that."""
    *before, last = turns
    is_asked = any(turn.role == Role.USER for turn in before)
    is_begun = request.continues and last.role == Role.ASSISTANT and not last.tool_calls
    return (tuple(before), last.content) if is_asked and is_begun else (tuple(turns), "")


def easier(turns: Sequence[Message]) -> Iterator[tuple[Message, ...]]:
    """The same conversation told in other ways, for templates that refuse the usual one.

    Some take one tool call a turn, some no system turn: its text then goes before the first
    question.
    """
    one_by_one = tuple(_one_call_a_turn(turns))
    tries = (one_by_one, _without_system(turns), _without_system(one_by_one))
    told = [tuple(turns)]
    for conversation in tries:
        if conversation not in told:
            told.append(conversation)
            yield conversation


def _one_call_a_turn(turns: Sequence[Message]) -> Iterator[Message]:
    """Each call in a turn of its own, its result behind it."""
    rest = deque(turns)
    while rest:
        turn = rest.popleft()
        if len(turn.tool_calls) < 2:
            yield turn
            continue
        results: list[Message] = []
        while rest and rest[0].role == Role.TOOL:
            results.append(rest.popleft())
        for number, call in enumerate(turn.tool_calls):
            own = [one for one in results if one.tool_call_id and one.tool_call_id == call.id]
            own = own or results[:1]
            results = [one for one in results if one not in own]
            yield replace(turn if not number else Message(turn.role), tool_calls=(call,))
            yield from own
        yield from results


def _without_system(turns: Sequence[Message]) -> tuple[Message, ...]:
    said = "\n\n".join(turn.content for turn in turns if turn.role == Role.SYSTEM)
    others = [turn for turn in turns if turn.role != Role.SYSTEM]
    if not said:
        return tuple(others)
    return merge_neighbours([Message(Role.USER, said), *others])


def places_to_cut(turns: Sequence[Message]) -> list[int]:
    """Where a shorter conversation may begin, the longest first; the last turn alone is the last.

    None begins with an answer to something that is gone, which many templates refuse.
    """
    last = len(turns) - 1
    if last < 1:
        return []
    old = [index for index, turn in enumerate(turns[:last]) if turn.role != Role.SYSTEM]
    return [index for index in (*old[1:], last) if index == last or turns[index].role == Role.USER]


def cut_at(turns: Sequence[Message], place: int) -> tuple[Message, ...]:
    """The turns from `place` on; system turns and the last stay."""
    system = (turn for turn in turns[:place] if turn.role == Role.SYSTEM)
    return (*system, *turns[place:])


def template_context(
    request: Request, turns: Sequence[Message], *, bos: str, eos: str
) -> JsonObject:
    """What a template may read, under the names that chat templates use."""
    system = next((turn.content for turn in turns if turn.role == Role.SYSTEM), "")
    context: JsonObject = {
        "messages": [_turn(turn) for turn in turns],
        "tools": [*request.tools] if request.tools and request.tool_choice.mode != "none" else None,
        "add_generation_prompt": True,
        "bos_token": bos,
        "eos_token": eos,
        "enable_thinking": request.think is not False,
        "thinking": request.think is not False,  # what DeepSeek, Granite and Kimi call the same
        "system": system,
        "prompt": _last_prompt(request, turns),
        "suffix": request.suffix,
    }
    if isinstance(request.think, str):
        context["reasoning_effort"] = request.think
    return context


def _last_prompt(request: Request, turns: Sequence[Message]) -> str:
    """What is asked now, for templates that know no conversations."""
    if request.prompt is not None:
        return request.prompt
    return next((turn.content for turn in reversed(turns) if turn.role == Role.USER), "")


def _turn(turn: Message) -> JsonObject:
    """One message as templates know it; fields that are empty are absent."""
    document: JsonObject = {"role": str(turn.role), "content": turn.content}
    if turn.thinking:
        document |= {"thinking": turn.thinking, "reasoning_content": turn.thinking}
    if turn.tool_calls:
        document["tool_calls"] = [_call(call) for call in turn.tool_calls]
    if turn.tool_name:
        document |= {"name": turn.tool_name, "tool_name": turn.tool_name}
    if turn.tool_call_id:
        document["tool_call_id"] = turn.tool_call_id
    return document


def _call(call: ToolCall) -> JsonObject:
    function = {"name": call.name, "arguments": call.arguments}
    return {"type": "function", "id": call.id, "function": function}


def without_template(turns: Sequence[Message]) -> str:
    """The prompt of a model that has no template: a base model continues plain text."""
    return "\n\n".join(turn.content for turn in turns if turn.content)
