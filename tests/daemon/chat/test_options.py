"""The request's options win over the model's, those over the defaults."""

from __future__ import annotations

import pytest
from qm.daemon.chat.options import chosen, completed, may_shift
from qm.daemon.runner.wire import Options
from qm.modelfiles.parameters import OptionError


def test_the_request_wins_over_the_model() -> None:
    """Field by field: a stop of the request replaces the model's, the rest stays."""
    options = chosen({"temperature": 1, "stop": ["a", "b"], "foo": 1}, Options(stop=("c",)))
    assert options == Options(temperature=1.0, stop=("c",))


def test_defaults_fill_the_rest() -> None:
    options = completed(Options(seed=3))
    assert (options.seed, options.temperature, options.top_k) == (3, 0.8, 40)
    assert options.num_ctx is None, "what placement decides stays open"


def test_stored_parameters_are_checked() -> None:
    """Other tools write them too."""
    with pytest.raises(OptionError, match="temperature"):
        chosen({"temperature": "hot"}, Options())


def test_until_the_context_is_full_means_no_shift() -> None:
    assert may_shift(Options(num_predict=-1), True)
    assert not may_shift(Options(num_predict=-2), True)
    assert not may_shift(Options(), False)
