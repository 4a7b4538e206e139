"""Every command of every page is one, with the options and variables that stand there."""

import ast
import importlib
import importlib.util
import re
from pathlib import Path

import click
import pytest

from flash_pipeline.cli import cli
from flash_pipeline_tests.pages import PAGES, PROJECT, blocks, commands, name_of, text_of

MAKEFILE = text_of("Makefile")
TARGETS = set(re.findall(r"^([a-z-]+):.*##", MAKEFILE, flags=re.M))


def written(ending: str) -> list[tuple[str, list[str]]]:
    """The pages and commands whose first word ends so, or whose module is so called."""
    found = []
    for page in PAGES:
        if page.name == "CHANGELOG.md":
            continue
        for words in commands(text_of(page)):
            if words[0].rpartition("/")[2] == ending:
                found.append((name_of(page), words[1:]))
            elif words[0].rpartition("/")[2] == "python" and words[1:3] == ["-m", ending]:
                found.append((name_of(page), words[3:]))
    return found


def test_commands_of_the_command_line_are_understood():
    seen = set()
    for page, (name, *rest) in written("flash_pipeline"):
        if name.isupper() or name.startswith("-"):
            continue
        assert name in cli.commands, f"{page}: flash_pipeline {name}"
        if not {"...", "--help"} & set(rest):
            try:
                cli.commands[name].make_context(name, list(rest))
            except click.UsageError as error:
                pytest.fail(f"{page}: flash_pipeline {name} {' '.join(rest)}: {error}")
        seen.add(name)
    assert len(seen) >= 10


def test_every_command_of_the_command_line_has_its_row():
    described = text_of("docs/reference/commands.md")
    for name in cli.commands:
        assert f"`{name}`" in described


def test_commands_of_make_are_targets_and_their_variables_are_read():
    seen = set()
    for page, (target, *rest) in written("make"):
        if not re.fullmatch(r"[a-z-]+", target):
            continue
        assert target in TARGETS, f"{page}: make {target}"
        recipe = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, flags=re.M)
        for word in rest:
            variable = re.fullmatch(r"([A-Z]+)=.*", word)
            if variable:
                assert recipe, target
                assert f"$({variable[1]})" in recipe[1], f"{page}: make {target} {word}"
        seen.add(target)
    assert {"run", "test", "check", "dev", "docs", "notebooks", "audit"} <= seen


def test_modules_that_are_run_are_there():
    modules = {
        words[2]
        for page in PAGES
        for words in commands(text_of(page))
        if words[0].rpartition("/")[2] == "python" and words[1:2] == ["-m"] and len(words) > 2
    }
    modules |= set(re.findall(r"-m ((?:benchmarks|notebooks|flash_pipeline)[\w.]*)", MAKEFILE))
    for module in modules:
        parts = module.split(".")
        here = PROJECT.joinpath(*parts)
        assert (
            here.is_dir() or here.with_suffix(".py").is_file() or importlib.util.find_spec(parts[0])
        ), module


PROGRAMS = [(page, code) for page in PAGES for code in blocks(text_of(page), "python")]


@pytest.mark.parametrize(
    ("page", "code"), PROGRAMS, ids=[f"{name_of(p)}-{n}" for n, (p, _) in enumerate(PROGRAMS)]
)
def test_programs_of_the_pages_compile_and_what_they_import_is_there(page: Path, code: str):
    for node in ast.walk(ast.parse(code, filename=str(page))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                assert hasattr(module, alias.name), f"{node.module}.{alias.name}"
