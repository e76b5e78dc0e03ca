"""What libraries find where they look for typing_extensions."""

from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import sys, typing
import qm.daemon.runner.__main__, qm.daemon.runner.serving
from typing_extensions import TypeAlias
assert TypeAlias is typing.TypeAlias
assert not getattr(sys.modules["typing_extensions"], "__file__", None), "it was executed"
from typing_extensions import deprecated, TypeForm
assert sys.modules["typing_extensions"].__file__
import typing_extensions
assert typing_extensions.TypeForm is TypeForm
"""


def test_a_runner_goes_without_typing_extensions() -> None:
    """Until somebody wants what `typing` lacks: then it is the real one."""
    subprocess.run([sys.executable, "-P", "-c", _SCRIPT], check=True)
