"""`flash_pipeline audit`: whether a model knows of the future."""

import dataclasses
import sys
from typing import TYPE_CHECKING

import click

from flash_pipeline.cli.output import json_option, print_json, print_table

if TYPE_CHECKING:
    from flash_pipeline.evaluation.audits import AuditResult


def _complete_alias(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    return [alias for alias in ("champion", "challenger") if alias.startswith(incomplete)]


@click.command()
@click.argument("version", default="champion", shell_complete=_complete_alias)
@click.option(
    "--quick", is_flag=True, help="Leave out the audit that trains a model on shuffled labels."
)
@json_option
def audit(version: str, quick: bool, as_json: bool) -> None:
    """Run the leak audits on a model: VERSION, champion (by default) or challenger.

    Exit status 1 where one fails. One that the stored data cannot decide counts as passed, and
    says so.
    """
    from flash_pipeline.evaluation.audits import audit_version
    from flash_pipeline.settings import Settings

    results = audit_version(Settings.from_environment(), version, train=not quick)
    passed = all(each.passed for each in results)
    if as_json:
        audits = [dataclasses.asdict(each) for each in results]
        print_json({"version": version, "passed": passed, "audits": audits})
    else:
        _print(results)
    sys.exit(0 if passed else 1)


def _print(results: "tuple[AuditResult, ...]") -> None:
    lines = [(each.audit, _word(each), each.words) for each in results]
    styles = ["" if each.passed else "bold red" for each in results]
    print_table(("audit", "outcome", "what came of it"), lines, styles=styles)


def _word(result: "AuditResult") -> str:
    if not result.checked:
        return "not checked"
    return "passed" if result.passed else "FAILED"
