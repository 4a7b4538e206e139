"""What all commands share: help at once, completion, tables and JSON."""

import json
import os
import subprocess
import sys

import pytest

from flash_pipeline.cli import cli
from flash_pipeline.cli.output import duration_words, print_json, print_table

HEAVY = {"torch", "mlflow", "dagster", "pyarrow", "duckdb", "pandas", "numpy", "rich", "requests"}
COMMANDS = (
    *("audit", "collect-book", "dev", "doctor", "evaluate", "exchange", "forecast", "import"),
    *("promote", "promotions", "prune", "rollback", "run"),
)
AS_INSTALLED = (
    "import sys; sys.argv[0] = 'flash_pipeline'; from flash_pipeline.cli import main; main()"
)


def test_there_are_these_commands():
    assert tuple(sorted(cli.commands)) == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help(command, invoke, name):
    done = invoke(command.home, name, "--help")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: ")
    assert not command.home.exists()


def test_help_loads_none_of_the_heavy_packages():
    code = "import sys, flash_pipeline.cli; print(*{n.partition('.')[0] for n in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert HEAVY.isdisjoint(done.stdout.split())


@pytest.mark.parametrize("arguments", [("--no-such",), ("no-such",), ("forecast", "--no-such")])
def test_an_error_of_usage_is_exit_status_2(command, arguments):
    done = command(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: " in done.stderr


RAISE = """
import sys
import click, duckdb, mlflow.exceptions, sqlalchemy.exc
from flash_pipeline import cli

@cli.cli.command()
def fail():
    raise {error}

sys.argv = ["flash_pipeline", "fail"]
cli.main()
"""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("duckdb.IOException('IO Error:\\n  cut off')", "IOException: IO Error: cut off"),
        (
            "mlflow.exceptions.MlflowException('no postgresql://me:secret@host/x')",
            "MlflowException: no postgresql://***@host/x",
        ),
        (
            "cli.FlashPipelineError('no postgresql://me:secret@host/x')",
            "no postgresql://***@host/x",
        ),
        ("sqlalchemy.exc.OperationalError('SELECT 1', {}, Exception('disk'))", "OperationalError:"),
        ("PermissionError(13, 'Permission denied', '/x')", "PermissionError: [Errno 13]"),
    ],
)
def test_an_error_of_a_store_or_a_disk_is_one_line(error, told):
    code = RAISE.replace("{error}", error)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {told}")
    assert done.stderr.count("\n") == 1


def test_a_fault_of_the_code_keeps_its_traceback():
    code = RAISE.replace("{error}", "KeyError('x')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("flash_pipeline pro", {"plain,promote", "plain,promotions"}),
        ("flash_pipeline audit ch", {"plain,champion", "plain,challenger"}),
        ("flash_pipeline forecast --js", {"plain,--json"}),
    ],
)
def test_the_shell_completes_commands_and_options(words, expected):
    environ = {
        **os.environ,
        "_FLASH_PIPELINE_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    command = [sys.executable, "-c", AS_INSTALLED]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert set(done.stdout.split()) == expected


def test_what_looks_like_markup_stays_text_and_no_line_is_cut(capsys):
    long = "word " * 60
    print_table(("a", "b"), [("[red]x[/red]", long)])
    shown = capsys.readouterr().out
    assert "[red]x[/red]" in shown
    assert long.strip() in shown


def test_numbers_that_json_does_not_have_are_null(capsys):
    print_json({"a": float("nan"), "b": [1.5, float("inf")], "c": ({"d": float("-inf")},)})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1.5, None], "c": [{"d": None}]}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3600, "1 h 0 min"), (90_000, "1 d 1 h")],
)
def test_spans_of_time_are_in_their_two_largest_units(seconds, words):
    assert duration_words(seconds) == words
