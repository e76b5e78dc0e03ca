"""Bodies of /api/chat and /api/generate, and what they mean."""

from __future__ import annotations

import base64
import math

import pytest
from qm.daemon.chat.request import Format, Request
from qm.daemon.http.fields import Fields, JsonObject
from qm.daemon.http.ollama_request import (
    chat_request,
    generate_request,
    keep_alive_s,
    options,
)
from qm.daemon.runner.wire import Options
from qm.store.errors import InvalidRequest


def chat(**fields: object) -> Request:
    document = {"model": "m", "messages": [{"role": "user"}], **fields}
    return chat_request(Fields(document, "ChatRequest"))


def generate(**fields: object) -> Request:
    return generate_request(Fields({"model": "m", "prompt": "p", **fields}))


def test_a_chat_with_everything() -> None:
    image = base64.b64encode(b"\x89PNG").decode()
    tool = {"type": "function", "function": {"name": "f", "parameters": {"Type": "object"}}}
    request = chat(
        messages=[
            {"Role": "user", "CONTENT": "hi", "images": [image]},
            {
                "role": "assistant",
                "thinking": "hm",
                "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {"a": 1}}}],
            },
            {"role": "tool", "content": "1", "tool_name": "f", "tool_call_id": "c"},
        ],
        tools=[tool],
        format="json",
        think="high",
        options={"temperature": 0, "stop": "x"},
        keep_alive="5m",
        truncate=True,
        shift=False,
        logprobs=True,
        top_logprobs=3,
    )
    assert request.messages is not None
    user, assistant, result = request.messages
    assert (user.content, user.images) == ("hi", (b"\x89PNG",))
    assert assistant.thinking == "hm"
    assert assistant.tool_calls[0].arguments == {"a": 1}
    assert (result.tool_name, result.tool_call_id) == ("f", "c")
    assert request.tools == (tool,)
    assert request.format == Format(json_schema={"type": "object"})
    assert (request.think, request.keep_alive_s) == ("high", 300)
    assert request.options == Options(temperature=0.0, stop=("x",))
    assert (request.truncate, request.shift) == (True, False)
    assert (request.logprobs, request.top_logprobs, request.load_only) == (True, 3, False)


def test_nothing_is_cut_unless_asked() -> None:
    """Ollama cuts a long conversation silently; here the client has to ask for it."""
    assert chat().truncate is False
    assert generate().truncate is False


def test_no_input_only_loads() -> None:
    assert chat(messages=[]).load_only
    assert chat(messages=None).load_only
    assert generate(prompt="").load_only
    assert generate(prompt="", system="x").load_only
    assert not generate(prompt="", suffix="x").load_only


def test_the_old_field_name_works_too() -> None:
    assert generate_request(Fields({"name": "m", "prompt": "p"})).model == "m"


def test_arguments_may_be_json_text() -> None:
    """OpenAI's shape in Ollama's field: common enough to be read."""
    call = {"function": {"name": "f", "arguments": '{"city":"Paris"}'}}
    request = chat(messages=[{"role": "assistant", "tool_calls": [call]}])
    assert request.messages is not None
    assert request.messages[0].tool_calls[0].arguments == {"city": "Paris"}


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        (0, 0),
        (1.5, 1.5),
        ("1h30m", 5400),
        ("0", 0),
        (-1, math.inf),
        ("-1s", math.inf),
        ("", None),
    ],
)
def test_keep_alive(value: object, seconds: float | None) -> None:
    assert keep_alive_s(Fields({"keep_alive": value})) == seconds


def test_empty_formats_mean_none() -> None:
    assert generate(format=None).format is None
    assert generate(format="").format is None
    assert generate(format={"type": "object"}).format == Format(json_schema={"type": "object"})


BAD: list[tuple[JsonObject, str]] = [
    ({"model": ""}, "model is required"),
    (
        {"messages": "hi"},
        r"string into Go struct field ChatRequest.messages of type \[\]api.Message",
    ),
    (
        {"messages": [{"role": 5}]},
        r"number into Go struct field ChatRequest.messages\[0\].role of type string",
    ),
    (
        {"messages": [{"role": "user", "images": ["http://x/y.png"]}]},
        r"messages\[0\].images\[0\] must be the base64 data",
    ),
    (
        {"messages": [{"tool_calls": [{"function": {"arguments": "{x"}}]}]},
        r"messages\[0\].tool_calls\[0\].function.arguments of type",
    ),
    ({"tools": ["x"]}, r"tools\[0\] of type api.Tool"),
    ({"options": {"temperature": "x"}}, 'option "temperature" must be of type float32'),
    ({"options": {"num_ctx": 2**31}}, 'option "num_ctx" must be between'),
    ({"options": [1]}, r"options of type map\[string\]any"),
    ({"keep_alive": "abc"}, 'time: invalid duration "abc"'),
    ({"keep_alive": "5"}, 'time: missing unit in duration "5"'),
    ({"keep_alive": True}, "keep_alive must be"),
    ({"keep_alive": []}, "array into Go struct field ChatRequest.keep_alive of type api.Duration"),
    ({"format": True}, 'invalid format: "true"; expected "json" or a valid JSON Schema object'),
    ({"format": "xml"}, "invalid format"),
    ({"think": "banana"}, r'invalid think value: "banana" \(must be'),
    ({"think": 3}, "think must be a boolean or string"),
    ({"top_logprobs": 21}, "top_logprobs must be between 0 and 20"),
    ({"stream": 1, "truncate": 1}, "truncate of type bool"),
]


@pytest.mark.parametrize(("fields", "reason"), BAD)
def test_bad_fields_are_named(fields: JsonObject, reason: str) -> None:
    """Each is a 400 whose text says which field, and what it should be."""
    with pytest.raises(InvalidRequest, match=reason) as caught:
        chat(**fields)
    assert caught.value.status == 400


@pytest.mark.parametrize("field", ["system", "template"])
def test_raw_takes_the_prompt_as_it_is(field: str) -> None:
    with pytest.raises(InvalidRequest, match="raw mode does not support"):
        generate(raw=True, **{field: "x"})
    with pytest.raises(InvalidRequest, match="raw mode does not support"):
        generate(raw=True, context=[1])
    assert generate(raw=True).raw


def test_context_holds_token_ids() -> None:
    assert generate(context=[1, 2]).context == (1, 2)
    with pytest.raises(InvalidRequest, match=r"context\[1\] of type int"):
        generate(context=[1, -2])


def test_unknown_options_are_ignored() -> None:
    """Editor plugins send options of other servers."""
    assert options(Fields({"options": {"foo": 1, "seed": 3}})) == Options(seed=3)
