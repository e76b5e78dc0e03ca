"""Which options hold for one generation: the request's, else the model's, else the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from qm.modelfiles.parameters import Value, check_all, complete

from ..runner.wire import Options

UNTIL_CONTEXT_IS_FULL = -2  # of num_predict
_DEFAULTS: Final = msgspec.convert(complete({}), Options)


def chosen(model_parameters: Mapping[str, object], requested: Options) -> Options:
    """What the request or the model set; None where neither did. Raises OptionError."""
    known, _ = check_all(model_parameters)
    return msgspec.convert(known | set_fields(requested), Options)


def completed(options: Options) -> Options:
    """The same with every default."""
    return msgspec.structs.replace(_DEFAULTS, **set_fields(options))


def may_shift(options: Options, requested: bool) -> bool:
    """Whether old tokens may be dropped once the context is full."""
    return requested and options.num_predict != UNTIL_CONTEXT_IS_FULL


def set_fields(options: Options) -> dict[str, Value]:
    """The options that are set, by name."""
    return {
        name: value for name, value in msgspec.structs.asdict(options).items() if value is not None
    }
