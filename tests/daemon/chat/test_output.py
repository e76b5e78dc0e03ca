"""What an answer may hold is decided before it begins; then its pieces come apart."""

from __future__ import annotations

import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # its stubs are one more package
import pytest
from qm.daemon.chat.output import OutputShape, output_shape
from qm.daemon.chat.request import Delta, Format, JsonObject, Request, ToolChoice, joined
from qm.daemon.chat.tools.required import NoTools, UnknownTool, call_schema, or_call
from qm.modelfiles.template import Template

CHATML = Template.of("{% if tools %}<tool_call>{% endif %}{{ messages }}")
MISTRAL = Template.of("{% if tools %}[TOOL_CALLS]{% endif %}{{ messages }}")
PART = {"$ref": "#/$defs/Part"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"properties": {"city": {"$ref": "#/$defs/c"}}, "$defs": {"c": {}}},
    },
}
NOW = {"type": "function", "function": {"name": "now"}}
CALL = '{"name": "now", "arguments": {}}'


def shape(template: Template = CHATML, *, thinks: bool = False, **fields: Any) -> OutputShape:
    """The shape of an answer to a request with two tools."""
    return output_shape(asked(**fields), template, thinks=thinks)


def asked(**fields: Any) -> Request:
    """A request with two tools."""
    return Request(model="m", messages=(), **({"tools": (WEATHER, NOW)} | fields))


def read(expected: OutputShape, text: str, prompt: str = "") -> Delta:
    """What a client gets of `text`, whole."""
    parser = expected.parser(asked(), prompt)
    assert parser is not None
    return joined([parser.feed(text), parser.finish()])


def test_text_alone_needs_no_parser() -> None:
    """Without tools and reasoning the text passes as it is."""
    assert shape(tools=()).parser(asked(tools=()), "") is None
    assert shape(tool_choice=ToolChoice("none")).parser(asked(), "") is None


def test_reasoning_then_a_call() -> None:
    """A call is looked for behind the reasoning, never in it."""
    text = f"<think>maybe <tool_call>{CALL}</tool_call></think><tool_call>{CALL}</tool_call>"
    delta = read(shape(thinks=True), text)
    assert delta.thinking == f"maybe <tool_call>{CALL}</tool_call>"
    assert [call.name for call in delta.tool_calls] == ["now"]
    assert delta.content == ""


def test_an_answer_goes_on_behind_the_reasoning() -> None:
    """Where the template opens it, it is closed first."""
    expected = shape(thinks=True)
    assert expected.can_continue
    assert expected.continued("assistant\n", "{") == "assistant\n{"
    assert expected.continued("<think>\n", "{") == "<think>\n\n</think>\n\n{"
    assert expected.continued("<think>\n", "") == "<think>\n"
    assert not shape(tool_choice=ToolChoice("required")).can_continue


POINT: JsonObject = {
    "type": "object",
    "properties": {"x": {"$ref": "#/$defs/n"}},
    "required": ["x"],
    "$defs": {"n": {"type": "integer"}},
}


@pytest.mark.parametrize("template", [CHATML, MISTRAL, Template.of("<start_function_call>")])
def test_an_answer_that_is_held_to_a_schema_may_be_a_call(template: Template) -> None:
    """To a tool on offer, whatever marks the model has; definitions are found where they were."""
    request = asked(format=Format(POINT))
    expected = output_shape(request, template, thinks=False)
    held = jsonschema.Draft202012Validator(expected.schema(request))
    for valid in (CALL, '{"x": 1}'):
        held.validate(json.loads(valid))
    for invalid in ({"x": "1"}, {"name": "other", "arguments": {}}, {"name": "now"}):
        assert not held.is_valid(invalid)
    for text, names, content in ((CALL, ["now"], ""), ('{"x": 1}', [], '{"x": 1}')):
        parser = expected.parser(request, "")
        assert parser is not None
        delta = joined([*map(parser.feed, text), parser.finish()])
        assert ([call.name for call in delta.tool_calls], delta.content) == (names, content)


def test_no_call_takes_the_place_of_an_answer_where_none_is_offered() -> None:
    """Nor where the schema is a call's, or its references would lead elsewhere then."""
    for fields in ({"tools": ()}, {"tool_choice": ToolChoice("none")}):
        request = asked(format=Format(POINT), **fields)
        assert output_shape(request, CHATML, thinks=False).schema(request) == POINT
    tree: JsonObject = {"properties": {"next": {"$ref": "#"}}}
    call: JsonObject = {"properties": {"name": {"const": "now"}, "arguments": {"maxProperties": 0}}}
    for schema in (tree, call):
        assert or_call(schema, (NOW,)) == schema


def test_a_required_call_begins_in_the_prompt() -> None:
    """The prompt opens the block, so that the answer is the call and nothing else."""
    expected = shape(tool_choice=ToolChoice("required"))
    assert expected.prefill == "<tool_call>\n"
    assert [call.name for call in read(expected, CALL).tool_calls] == ["now"]


def test_a_required_call_without_marks() -> None:
    """Where marks can't be written ahead, the call is plain JSON."""
    for expected in (
        shape(MISTRAL, tool_choice=ToolChoice("required")),
        shape(thinks=True, tool_choice=ToolChoice("required")),
    ):
        assert expected.prefill == ""
    expected = shape(MISTRAL, tool_choice=ToolChoice("required"))
    assert [call.name for call in read(expected, CALL).tool_calls] == ["now"]


def test_a_required_call_after_reasoning() -> None:
    """The call follows the reasoning."""
    expected = shape(thinks=True, tool_choice=ToolChoice("required"))
    delta = read(expected, f"<think>Hm.</think>\n{CALL}")
    assert (delta.thinking, delta.content) == ("Hm.", "")
    assert [call.name for call in delta.tool_calls] == ["now"]


def test_control_tokens_are_asked_for_where_marks_are() -> None:
    """The runner leaves control tokens out, unless a mark is one."""
    assert shape(MISTRAL).control_tokens
    assert not shape(CHATML).control_tokens


def test_the_schema_of_a_required_call() -> None:
    """One of the tools, with its own parameters; definitions stand where references look."""
    schema = call_schema([WEATHER, NOW], ToolChoice("required"))
    assert schema is not None
    names = [call["properties"]["name"]["const"] for call in schema["anyOf"]]
    assert names == ["weather", "now"]
    assert schema["$defs"] == {"c": {}}


def test_a_named_call() -> None:
    """A named tool is the only one; a name that is not on offer is refused."""
    schema = call_schema([WEATHER, NOW], ToolChoice("required", "now"))
    assert schema is not None
    assert schema["properties"]["name"] == {"const": "now"}
    with pytest.raises(UnknownTool, match="'gone'"):
        call_schema([WEATHER], ToolChoice("required", "gone"))
    for choice in (ToolChoice("required"), ToolChoice("required", "now")):
        with pytest.raises(NoTools, match="there are no tools"):
            output_shape(asked(tools=(), tool_choice=choice), CHATML, thinks=False)


def test_nothing_is_required_by_default() -> None:
    """`auto` and `none` hold the answer to nothing."""
    assert call_schema([WEATHER], ToolChoice()) is None


def test_tools_keep_their_own_definitions() -> None:
    """Two that call different things by one name, and one that has the first's."""

    def tool(name: str, values: list[int]) -> JsonObject:
        whole = {"$ref": "#/$defs/Whole"}
        own = {"Part": {"enum": values}, "Whole": {"type": "array", "items": PART}}
        parameters = {"type": "object", "properties": {"x": whole}, "$defs": own}
        return {"function": {"name": name, "parameters": parameters}}

    schema = call_schema([tool("a", [1]), tool("b", [2]), tool("c", [1])], ToolChoice("required"))
    assert schema is not None
    asked = {"a": [1], "b": [2], "c": [1]}
    for name, values in asked.items():
        for value in (1, 2):
            call = {"name": name, "arguments": {"x": [value]}}
            assert jsonschema.Draft202012Validator(schema).is_valid(call) == (value in values)


def test_definitions_that_are_none_are_left_to_the_grammar() -> None:
    tool = {"function": {"name": "a", "parameters": {"$defs": [1]}}}
    schema = call_schema([tool], ToolChoice("required"))
    assert schema is not None
    assert schema["properties"]["arguments"] == {"type": "object", "$defs": [1]}
    assert call_schema([WEATHER], ToolChoice("none")) is None
