"""What a step needs is compared with what there is before the step begins."""

from __future__ import annotations

import pytest
from qm.modelfiles.build.needs import NotEnoughMemory, check_memory
from qm.modelfiles.memory import read_memory


def test_more_memory_than_there_is_is_refused_with_both_numbers() -> None:
    """What the machine has, or the limit of the group that this process is in."""
    check_memory(1, "converting")
    needed = 2 * read_memory().total_bytes
    with pytest.raises(NotEnoughMemory, match=f"for converting: {needed} bytes are needed, .* are"):
        check_memory(needed, "converting")
