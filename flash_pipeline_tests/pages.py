"""The pages of the documentation, and what stands in them."""

import re
import shlex
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]

OUTSIDE = ("README.md", "SECURITY.md", "CHANGELOG.md", "data/README.md")
"""Pages that lie outside `docs/`."""

PAGES = sorted([PROJECT / name for name in OUTSIDE] + [*(PROJECT / "docs").rglob("*.md")])

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", flags=re.M | re.S)


def text_of(page: str | Path) -> str:
    return (PROJECT / page).read_text(encoding="utf-8")


def name_of(page: Path) -> str:
    return page.relative_to(PROJECT).as_posix()


def blocks(text: str, language: str) -> list[str]:
    return [body for _, found, body in _FENCE.findall(text) if found == language]


def commands(text: str) -> list[list[str]]:
    """What is written as a command, in words: lines of shell blocks and of indented ones, and code
    in a sentence, without the variables before it and the comment after it."""
    lines = [
        line
        for name in ("sh", "bash", "console")
        for b in blocks(text, name)
        for line in b.splitlines()
    ]
    plain = _FENCE.sub("", text)
    lines += [line.strip() for line in plain.splitlines() if line.startswith("    ")]
    lines += re.findall(r"`((?:flash_pipeline|make|python -m) [^`\n]+)`", plain)
    found = []
    for line in lines:
        try:
            words = shlex.split(line.removeprefix("$ "), comments=True)
        except ValueError:  # no shell: a drawing
            continue
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        if words:
            found.append(words)
    return found
