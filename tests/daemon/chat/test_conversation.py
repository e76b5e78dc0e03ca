"""Which turns a template gets to see."""

from __future__ import annotations

from qm.daemon.chat.conversation import (
    before_answer,
    conversation,
    cut_at,
    easier,
    merge_neighbours,
    places_to_cut,
    template_context,
)
from qm.daemon.chat.request import Message, Request, ToolCall

USER = Message("user", "hi")
PRESET = (Message("user", "q"), Message("assistant", "a"))


def test_the_models_system_text_and_messages_come_first() -> None:
    turns = conversation(Request("m", messages=(USER,)), "Be brief.", PRESET)
    assert [turn.content for turn in turns] == ["Be brief.", "q", "a", "hi"]


def test_a_system_turn_of_the_request_replaces_the_models() -> None:
    request = Request("m", messages=(Message("system", "Mine."), USER))
    assert [turn.content for turn in conversation(request, "Theirs.", ())] == ["Mine.", "hi"]


def test_a_prompt_becomes_a_user_turn() -> None:
    turns = conversation(Request("m", prompt="hi", system="S"), "Theirs.", ())
    assert [(turn.role, turn.content) for turn in turns] == [("system", "S"), ("user", "hi")]


def test_neighbours_of_one_role_are_joined() -> None:
    """As Ollama does, since many templates refuse two turns of one role."""
    turns = merge_neighbours((Message("assistant", "b"), Message("assistant", "c"), USER))
    assert [turn.content for turn in turns] == ["b\n\nc", "hi"]


def test_an_answer_may_have_begun() -> None:
    """Where the request says so, and somebody asked; else a last turn is a turn like any other."""
    turns = (USER, Message("assistant", "Sure"))
    begun = Request("m", messages=turns, continues=True)
    assert before_answer(begun, turns) == ((USER,), "Sure")
    assert before_answer(begun, turns[1:]) == (turns[1:], "")
    assert before_answer(begun, turns[:1]) == (turns[:1], "")
    assert before_answer(Request("m", messages=turns), turns) == (turns, "")


def test_tool_turns_are_never_joined() -> None:
    call = Message("assistant", tool_calls=(ToolCall("f", {}),))
    result = Message("tool", "1")
    turns = (call, result, result, Message("assistant", "x"), call)
    assert merge_neighbours(turns) == turns


def test_the_oldest_turns_go_first() -> None:
    """System turns and the last stay; nothing starts with an answer without its question."""
    system, last = Message("system", "s"), Message("user", "3")
    turns = (
        system,
        Message("user", "1"),
        Message("assistant", "a1"),
        Message("user", "2"),
        Message("assistant", "a2"),
        last,
    )
    shorter = [cut_at(turns, place) for place in places_to_cut(turns)]
    contents = [[turn.content for turn in each] for each in shorter]
    assert contents == [["s", "2", "a2", "3"], ["s", "3"]]


def test_one_turn_can_not_be_shortened() -> None:
    assert places_to_cut((USER,)) == []


def test_templates_that_refuse_are_told_otherwise() -> None:
    """One call a turn with its own result behind it; system texts before the first question."""
    calls = (ToolCall("f", {}, "c1"), ToolCall("g", {}, "c2", 1))
    results = (Message("tool", "2", tool_call_id="c2"), Message("tool", "1", tool_call_id="c1"))
    turns = (Message("system", "s"), USER, Message("assistant", "x", tool_calls=calls), *results)
    first, second, third = easier(turns)
    one_by_one = (
        Message("assistant", "x", tool_calls=calls[:1]),
        results[1],
        Message("assistant", tool_calls=calls[1:]),
        results[0],
    )
    question = Message("user", "s\n\nhi")
    assert first == (*turns[:2], *one_by_one)
    assert second == (question, *turns[2:])
    assert third == (question, *one_by_one)


def test_results_without_ids_follow_their_calls_in_order() -> None:
    """What is left over stays behind them."""
    calls = tuple(ToolCall(name, {}) for name in "fg")
    results = tuple(Message("tool", text) for text in "123")
    (told,) = easier((USER, Message("assistant", tool_calls=calls), *results))
    assert [turn.content for turn in told] == ["hi", "", "1", "", "2", "3"]
    assert list(easier((USER,))) == []


def test_templates_see_the_usual_names() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    call = Message("assistant", tool_calls=(ToolCall("f", {"x": 1}, id="c1"),))
    request = Request("m", messages=(USER, call), tools=(tool,), think="low")
    context = template_context(request, (USER, call), bos="<s>", eos="</s>")
    assert context["messages"][1]["tool_calls"][0]["function"] == {
        "name": "f",
        "arguments": {"x": 1},
    }
    assert context["tools"] == [tool]
    assert context["bos_token"] == "<s>"
    assert context["add_generation_prompt"] is True
    assert context["enable_thinking"] is True
    assert context["reasoning_effort"] == "low"
