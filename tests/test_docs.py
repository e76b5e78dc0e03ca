"""The documents say what is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from qm.daemon.settings import SETTINGS

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]


def test_settings_page_lists_every_setting() -> None:
    """docs/settings.md has one row for each setting, with its default and its words."""
    rows = [
        f"| `{row.name}` | {row.kind} | {f'`{row.default}`' if row.default else ''} | {row.doc} |"
        for row in SETTINGS
    ]
    page = (ROOT / "docs/settings.md").read_text()
    assert [line for line in page.splitlines() if line.startswith("| `QM_")] == rows


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_paths_lead_somewhere(document: Path) -> None:
    """Relative links, and paths of our folders in backticks, name files that exist."""
    text = document.read_text()
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    paths = re.findall(r"`((?:cli|daemon|modelfiles|store|tests|install|docs)/[\w./-]*)`", text)
    missing = [link for link in links if not (document.parent / link).exists()]
    missing += [path for path in paths if not (ROOT / path).exists()]
    assert missing == []


def test_readme_begins_with_the_two_commands() -> None:
    """Who opens the README sees `make run` and `make test` on the first screen, and they exist."""
    screen = "\n".join((ROOT / "README.md").read_text().splitlines()[:24])
    for target in ("run", "test"):
        assert f"make {target}" in screen
        made = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, check=False)
        assert made.returncode == 0, made.stderr
