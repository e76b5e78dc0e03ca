"""Safetensors to GGUF, one module per architecture family."""
