"""`qm show`: what a model is made of."""

from __future__ import annotations

from collections.abc import Sequence

import click

from .client import JsonObject
from .connect import connect, show_json
from .naming import model_argument

PARTS = ("modelfile", "template", "system", "parameters", "license")


@click.command()
@model_argument("model")
@click.option("--modelfile", "part", flag_value="modelfile", help="Only the Modelfile.")
@click.option("--template", "part", flag_value="template", help="Only the chat template.")
@click.option("--system", "part", flag_value="system", help="Only the system prompt.")
@click.option("--parameters", "part", flag_value="parameters", help="Only the parameters.")
@click.option("--license", "part", flag_value="license", help="Only the licence.")
@click.option("--provenance", is_flag=True, help="Only how its weights were made.")
@click.option("-v", "--verbose", is_flag=True, help="Also all metadata and tensors.")
@click.option("--json", "as_json", is_flag=True, help="Print the API's own object.")
def show_command(
    model: str, part: str | None, provenance: bool, verbose: bool, as_json: bool
) -> None:
    """Say what MODEL is made of."""
    info = connect().post("/api/show", {"model": model, "verbose": verbose})
    if provenance:
        from .provenance import provenance_text

        made = (info.get("qm") or {}).get("provenance")
        show_json(made or {}) if as_json else click.echo(provenance_text(made))
    elif as_json:
        show_json(info)
    elif part:
        click.echo(part_text(info, part))
    else:
        click.echo(info_text(info, verbose=verbose))


def part_text(info: JsonObject, part: str) -> str:
    """One of `PARTS`, or "" where the model has none."""
    return str(info.get(part) or "").rstrip("\n")


def info_text(info: JsonObject, *, verbose: bool = False) -> str:
    """All that matters about a model, in sections."""
    sections = [_section("Model", _model_facts(info))]
    if quality := (info.get("qm") or {}).get("quality"):
        from .quality import quality_facts

        sections += [_section("Quality", quality_facts(quality))]
    sections += [_list_section("Capabilities", info.get("capabilities") or [])]
    sections += [_list_section("Parameters", part_text(info, "parameters").splitlines())]
    sections += [_list_section("System", _first_lines(part_text(info, "system")))]
    sections += [_list_section("License", _first_lines(part_text(info, "license")))]
    if verbose:
        metadata = info.get("model_info") or {}
        sections += [_section("Metadata", [(key, _short(metadata[key])) for key in metadata])]
        sections += [_section("Tensors", [_tensor(each) for each in info.get("tensors") or []])]
    return "\n\n".join(section for section in sections if section)


def _model_facts(info: JsonObject) -> list[tuple[str, str]]:
    details, metadata = info.get("details") or {}, info.get("model_info") or {}
    architecture = str(metadata.get("general.architecture") or details.get("family", ""))
    facts = [
        ("architecture", architecture),
        ("parameters", details.get("parameter_size")),
        ("context length", metadata.get(f"{architecture}.context_length")),
        ("embedding length", metadata.get(f"{architecture}.embedding_length")),
        ("quantization", details.get("quantization_level")),
        ("parent", details.get("parent_model")),
        ("requires", info.get("requires")),
    ]
    return [(name, str(value)) for name, value in facts if value]


def _section(title: str, facts: Sequence[tuple[str, str]]) -> str:
    if not facts:
        return ""
    width = max(len(name) for name, _ in facts)
    return "\n".join([title, *(f"  {name:<{width}}  {value}" for name, value in facts)])


def _list_section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title, *(f"  {line}" for line in lines)]) if lines else ""


def _first_lines(text: str, count: int = 3) -> list[str]:
    lines = text.strip().splitlines()
    return [*lines[:count], "…"] if len(lines) > count else lines


def _short(value: object, length: int = 60) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _tensor(tensor: JsonObject) -> tuple[str, str]:
    return str(tensor["name"]), f"{tensor['type']:<6} {tensor['shape']}"
