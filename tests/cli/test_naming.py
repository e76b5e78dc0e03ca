"""The names that people write for a model."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner
from qm.cli.naming import model_argument


@click.command()
@model_argument("models", nargs=-1)
def told(models: tuple[str, ...]) -> None:
    click.echo(" ".join(models))


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("smollm2", "smollm2"),
        ("hf.co/org/repo:Q4_0", "hf.co/org/repo:Q4_0"),
        ("hf:org/repo", "hf.co/org/repo:latest"),
        ("huggingface.co/org/repo:Q4_0", "hf.co/org/repo:Q4_0"),
        ("hf.co/org/repo:Q4_0@v2", "hf.co/org/repo:Q4_0-v2"),
        ("https://huggingface.co/org/repo/blob/main/m.Q8_0.gguf", "hf.co/org/repo:m.Q8_0"),
        ("http://127.0.0.1:5000/x/y:z", "http://127.0.0.1:5000/x/y:z"),
    ],
)
def test_what_was_pulled_is_found_as_it_was_pulled(written: str, name: str) -> None:
    """In every form that a pull takes."""
    assert CliRunner().invoke(told, [written]).output == f"{name}\n"
