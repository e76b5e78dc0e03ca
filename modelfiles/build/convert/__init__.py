"""A Hugging Face repository as GGUF, without torch: numpy, and one small module per family."""

from __future__ import annotations

from .lora import convert_lora
from .report import ConvertReport
from .run import OutType, architecture, convert

__all__ = ["ConvertReport", "OutType", "architecture", "convert", "convert_lora"]
