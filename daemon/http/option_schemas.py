"""The shapes of sampling and loading options, from the one table that has them."""

from __future__ import annotations

from qm.modelfiles.parameters import PARAMETERS, RETIRED, Kind, Parameter

from ..chat.request import JsonObject
from .schema import FLAG, MAYBE_TEXT, NULL, TEXT, TEXTS, any_of

# Which of the others can't go with a grammar is more than a shape says.
_UNTOLD = {"grammar"}


def _shape(parameter: Parameter) -> JsonObject:
    bounds: JsonObject = {"minimum": parameter.minimum, "maximum": parameter.maximum}
    match parameter.type:
        case Kind.INTEGER:  # fractions are cut off
            told: JsonObject = {"type": ["number", "null"]} | bounds
        case Kind.FLOAT:
            told = {"type": ["number", "null"]} | bounds
        case Kind.BOOLEAN:
            told = FLAG
        case Kind.STRINGS:
            told = any_of(TEXT, TEXTS, NULL)
        case Kind.BIASES:
            bias: JsonObject = {"type": "number"} | bounds
            told = {
                "type": ["object", "null"],
                "patternProperties": {"^[0-9]{1,9}$": bias},
                "additionalProperties": False,
            }
        case _:
            told = {"enum": [*parameter.choices, None]} if parameter.choices else MAYBE_TEXT
    return told | {"description": parameter.doc}


OPTION_SHAPES: JsonObject = {
    name: _shape(parameter) for name, parameter in PARAMETERS.items() if name not in _UNTOLD
}
OPTIONS: JsonObject = {"type": ["object", "null"], "properties": OPTION_SHAPES}
# A model's own: what no option is called is refused.
MODEL_PARAMETERS: JsonObject = {
    "type": ["object", "null"],
    "properties": OPTION_SHAPES | {name: {} for name in (*sorted(RETIRED), *_UNTOLD)},
    "additionalProperties": False,
}
