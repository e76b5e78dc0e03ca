"""Which options hold for one generation: the request's, else the model's, else the defaults."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from qm.modelfiles.parameters import Value, check_all, complete

from ..runner.wire import Options

FOREVER = -1
UNTIL_CONTEXT_IS_FULL = -2
# An answer that never ends would hold its slot forever; nobody waits for more than this.
MOST_CONTEXTS = 10


def chosen(model_parameters: Mapping[str, object], requested: Options) -> Options:
    """What the request or the model set; None where neither did. Raises OptionError."""
    known, _ = check_all(model_parameters)
    return msgspec.convert(known | set_fields(requested), Options)


def completed(options: Options, n_ctx: int) -> Options:
    """The same with every default, and with an end to an endless answer."""
    values = complete(set_fields(options))
    full = msgspec.convert(values, Options)
    if full.num_predict is not None and full.num_predict >= 0:
        return full
    return msgspec.structs.replace(full, num_predict=MOST_CONTEXTS * n_ctx)


def may_shift(options: Options, requested: bool) -> bool:
    """Whether old tokens may be dropped once the context is full."""
    return requested and options.num_predict != UNTIL_CONTEXT_IS_FULL


def set_fields(options: Options) -> dict[str, Value]:
    """The options that are set, by name."""
    return {
        name: value for name, value in msgspec.structs.asdict(options).items() if value is not None
    }
