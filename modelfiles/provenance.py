"""How a model's weights were made, as its config records it: enough to make them again.

Nothing in it depends on when or where: the same build gives the same record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

Json: TypeAlias = dict[str, object]


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step: what went in, with what tool and parameters, and the blob that came out.

    An input is a blob's digest or the key of an earlier step.
    """

    kind: str
    tool: str
    key: str
    inputs: Mapping[str, str]
    parameters: Mapping[str, object]
    output: str

    def to_json(self) -> Json:
        return {
            "kind": self.kind,
            "tool": self.tool,
            "key": self.key,
            "inputs": dict(self.inputs),
            "parameters": dict(self.parameters),
            "output": self.output,
        }


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the files came from, `repository` and `commit` for the hub's, and every step.

    `sources` has what else came from the hub: `delta`, `adapter`, `imatrix`, `calibration` or
    `draft`, as `hf.co/org/repo[/file]@commit`. `choice` says why the type is as it is, where qm
    chose it. `notes` say what the repository's model does that llama.cpp can't.
    """

    repository: str = ""
    commit: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[StepRecord, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    choice: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def after(self, base: Provenance | None) -> Provenance:
        """As it continues what was done for the base model."""
        if base is None:
            return self
        return Provenance(
            repository=self.repository or base.repository,
            commit=self.commit or base.commit,
            files={**base.files, **self.files},
            steps=(*base.steps, *self.steps),
            sources={**base.sources, **self.sources},
            choice=self.choice,
            notes=self.notes or base.notes,
        )

    def to_json(self) -> Json:
        document: Json = {
            "repository": self.repository,
            "commit": self.commit,
            "files": dict(self.files),
            "sources": dict(self.sources),
            "choice": dict(self.choice),
            "notes": list(self.notes),
            "steps": [step.to_json() for step in self.steps],
        }
        return {key: value for key, value in document.items() if value}


def parse_provenance(value: object) -> Provenance | None:
    """What `to_json` gave; None for anything else, as strangers write configs too."""
    if not isinstance(value, dict):
        return None
    steps = value.get("steps")
    records = [_step(each) for each in steps] if isinstance(steps, list) else []
    if None in records:
        return None
    return Provenance(
        repository=_text(value.get("repository")),
        commit=_text(value.get("commit")),
        files=_texts(value.get("files")),
        steps=tuple(each for each in records if each is not None),
        sources=_texts(value.get("sources")),
        choice=choice if isinstance(choice := value.get("choice"), dict) else {},
        notes=_lines(value.get("notes")),
    )


def _step(value: object) -> StepRecord | None:
    match value:
        case {
            "kind": str(kind),
            "tool": str(tool),
            "key": str(key),
            "inputs": dict(inputs),
            "parameters": dict(parameters),
            "output": str(output),
        }:
            return StepRecord(kind, tool, key, _texts(inputs), parameters, output)
    return None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _lines(value: object) -> tuple[str, ...]:
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {str(key): each for key, each in value.items() if isinstance(each, str)}
