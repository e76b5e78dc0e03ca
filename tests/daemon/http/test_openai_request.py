"""OpenAI's requests: every field that is read, and what can't be used."""

from __future__ import annotations

from typing import Any

import pytest
from qm.daemon.chat.request import Format, ToolCall, ToolChoice
from qm.daemon.http.fields import Fields
from qm.daemon.http.openai_request import chat_wanted, completion_wanted, embed_wanted
from qm.store.errors import InvalidRequest


def chat(**fields: object) -> Any:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    return chat_wanted(Fields(body, "ChatCompletionRequest"))


def test_fields_of_a_chat() -> None:
    """What the SDK offers reaches the one internal request."""
    wanted = chat(
        max_tokens=5,
        max_completion_tokens=6,
        temperature=0.5,
        seed=3,
        stop=["a", "b"],
        logit_bias={"5": -100},
        n=2,
        tools=[{"type": "function", "function": {"name": "f"}}],
        tool_choice={"type": "function", "function": {"name": "f"}},
        response_format={"type": "json_schema", "json_schema": {"schema": {"type": "object"}}},
        reasoning_effort="xhigh",
        logprobs=True,
        top_logprobs=4,
        keep_alive=30,
    )
    first, second = wanted.requests
    assert (first.options.num_predict, first.options.temperature) == (6, 0.5)
    assert first.options.stop == ("a", "b")
    assert first.options.logit_bias == {5: -100}
    assert (first.options.seed, second.options.seed) == (3, 4)
    assert first.tool_choice == ToolChoice("required", "f")
    assert first.format == Format(json_schema={"type": "object"})
    assert (first.think, first.top_logprobs, first.keep_alive_s) == ("max", 4, 30)
    assert chat(tool_choice="none").requests[0].tool_choice == ToolChoice("none")


@pytest.mark.parametrize("nested", [True, False])
def test_a_choice_may_allow_some_tools(nested: bool) -> None:
    """Chat keeps the list one level lower than responses do."""
    tools = [{"type": "function", "function": {"name": name}} for name in ("f", "g", "h")]
    named = [{"type": "function", "function": {"name": name}} for name in ("h", "f")]
    allowance = {"mode": "required", "tools": named}
    choice = {"allowed_tools": allowance} if nested else allowance
    (request,) = chat(tools=tools, tool_choice={"type": "allowed_tools", **choice}).requests
    assert request.tool_choice == ToolChoice("required")
    assert [tool["function"]["name"] for tool in request.tools] == ["h", "f"]
    assert chat(parallel_tool_calls=False).requests[0].parallel_calls is False
    any_object = Format({"type": "object"})
    assert chat(response_format={"type": "json_object"}).requests[0].format == any_object
    given = {"type": "json_object", "schema": {"type": "array"}}  # as some servers have it
    assert chat(response_format=given).requests[0].format == Format({"type": "array"})
    assert chat(reasoning_effort="none").requests[0].think is False
    assert chat(max_tokens=-1).requests[0].options.num_predict == -1


def test_old_clients_speak_of_functions() -> None:
    """`functions` are tools, `function_call` chooses; tools win where both are given."""
    function = {"name": "f", "parameters": {"type": "object"}}
    (request,) = chat(functions=[function]).requests
    assert request.tools == ({"type": "function", "function": function},)
    assert (request.tool_choice, request.parallel_calls) == (ToolChoice(), False)
    assert chat(functions=[function]).functions
    for choice, meant in (
        ("none", ToolChoice("none")),
        ("auto", ToolChoice()),
        ({"name": "f"}, ToolChoice("required", "f")),
    ):
        (request,) = chat(functions=[function], function_call=choice).requests
        assert request.tool_choice == meant
    both = chat(functions=[function], tools=[], function_call=3)
    assert (both.functions, both.requests[0].tools) == (False, ())
    call = {"name": "f", "arguments": '{"a":1}'}
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "f", "content": "3"},
    ]
    messages = chat(functions=[function], messages=turns).requests[0].messages
    assert messages[1].tool_calls == (ToolCall("f", {"a": 1}),)
    assert (messages[2].role, messages[2].tool_name) == ("tool", "f")


def test_turns_of_a_chat() -> None:
    """Parts become text and images, a tool's result gets the tool's name."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    parts = [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
        {"type": "input_audio", "input_audio": {"data": "aG8=", "format": "wav"}},
    ]
    turns = (
        chat(
            messages=[
                {"role": "developer", "content": "s"},
                {"role": "user", "content": parts},
                {"role": "assistant", "content": None, "reasoning": "r", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c", "content": "18C"},
            ]
        )
        .requests[0]
        .messages
    )
    assert (turns[0].role, turns[1].content, turns[1].images) == ("system", "a", (b"hi", b"ho"))
    assert turns[2].tool_calls == (ToolCall("f", {"a": 1}, "c", 0),)
    assert (turns[2].thinking, turns[3].tool_name) == ("r", "f")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"messages": []}, r"\[\] is too short"),
        ({"messages": [{"role": "user", "content": 3}]}, "invalid message content type: float64"),
        ({"messages": [{"role": "user", "content": [{"type": "x"}]}]}, "invalid message format"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "input_audio", "input_audio": {"data": "?"}}],
                    }
                ]
            },
            "invalid audio input",
        ),
        ({"messages": [{"role": "user", "content": [3]}]}, r"messages\[0\].content\[0\] of type"),
        ({"max_tokens": "5"}, r"string into Go struct field .*\.max_tokens of type int"),
        ({"max_tokens": -2}, "max_tokens must not be negative"),
        ({"response_format": {"type": "xml"}}, "response_format.type must be .* not 'xml'"),
        ({"n": 0}, "n must be between 1 and 128"),
        ({"n": 10**9}, "n must be between"),
        ({"temperature": "hot"}, 'option "temperature"'),
        ({"top_logprobs": -1}, "top_logprobs must be between 0 and 20"),
        ({"tool_choice": "maybe"}, "tool_choice must be"),
        ({"tool_choice": {"type": "function"}}, "tool_choice must be"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "some"}}, "tool_choice must be"),
        ({"tool_choice": {"type": "allowed_tools"}}, "allows none, which"),
        (
            {"tool_choice": {"type": "allowed_tools", "tools": [{"name": "g"}]}},
            "allows 'g', which is not among tools",
        ),
        ({"tools": [3]}, r"tools\[0\] of type openai.Tool"),
        ({"tools": [{"function": "f"}]}, r"tools\[0\].function of type openai.Tool"),
        ({"tools": [{"function": {"name": 5}}]}, r"tools\[0\].function.name of type string"),
        ({"tools": [{"function": {"parameters": "x"}}]}, r"function.parameters of type map"),
        ({"functions": [{"parameters": {"properties": []}}]}, r"parameters.properties of type map"),
        ({"reasoning_effort": "huge"}, "reasoning_effort must be one of"),
        ({"reasoning_effort": 3}, "reasoning_effort of type string"),
        ({"stream_options": {"include_usage": 1}}, r"stream_options.include_usage of type bool"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"functions": {}}, r"functions of type \[\]openai.Function"),
        ({"functions": [], "function_call": "f"}, "function_call must be auto, none or name"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, Any], reason: str) -> None:
    """Each a 400 that says which field."""
    with pytest.raises(InvalidRequest, match=reason) as caught:
        chat(**fields)
    assert caught.value.status == 400
    named = caught.value.field.partition(".")[0]
    assert not named or named in fields


def completion(**fields: object) -> Any:
    return completion_wanted(Fields({"model": "m", **fields}, "CompletionRequest"))


def test_prompts_of_completions() -> None:
    assert [r.prompt for r in completion(prompt=["a", "b"]).requests] == ["a", "b"]
    assert [r.tokens for r in completion(prompt=[1, 2]).requests] == [(1, 2)]
    assert [r.tokens for r in completion(prompt=[[1], [2]]).requests] == [(1,), (2,)]
    assert completion().requests[0].load_only
    assert completion(prompt="a", suffix="b").requests[0].raw is False
    echoed = completion(prompt=["a", "b"], n=2, echo=True)
    assert ([r.echo for r in echoed.requests], echoed.n) == ([True] * 4, 2)
    assert completion(prompt=[1], echo=True, logprobs=0).requests[0].logprobs
    for fields, reason in (
        ({"prompt": 3}, "prompt of type string"),
        ({"prompt": ["a", 3]}, "must hold texts or tokens"),
        ({"prompt": [-1]}, r"prompt\[0\] of type int"),
        ({"prompt": "a", "suffix": "b", "echo": True, "logprobs": 1}, "are not scored"),
        ({"prompt": "a", "best_of": 3}, "best_of is not supported"),
        ({"prompt": ["a"] * 100, "n": 2}, "at most 128 choices"),
        ({"prompt": "a", "logprobs": 21}, "logprobs must be between"),
    ):
        with pytest.raises(InvalidRequest, match=reason):
            completion(**fields)


def test_inputs_of_embeddings() -> None:
    def embed(**fields: object) -> Any:
        return embed_wanted(Fields({"model": "m", **fields}, "EmbedRequest"))

    assert embed(input="").texts == ("",)
    assert embed(input=["a", "b"]).texts == ("a", "b")
    assert embed(input=[[1, 2], [3]]).tokens == ((1, 2), (3,))
    assert embed(input="a", dimensions=3, encoding_format="base64").dimensions == 3
    assert (embed(input="a").truncate, embed(input="a", truncate=True).truncate) == (False, True)
    for fields, reason in (
        ({"input": []}, "invalid input"),
        ({"input": [[]]}, r"input\[0\] must not be empty"),
        ({"input": {"a": 1}}, "object into Go struct field EmbedRequest.input of type string"),
        ({"input": "a", "dimensions": 0}, "dimensions must be positive"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format must be float or base64"),
    ):
        with pytest.raises(InvalidRequest, match=reason):
            embed(**fields)
