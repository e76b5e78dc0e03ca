"""What a conversion says about itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConvertReport:
    """What came out of a conversion."""

    architecture: str
    file_type: str
    tensors: int
    parameters: int
    written_bytes: int
