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
@click.option("--quick", is_flag=True, help="Leave out the two audits that train a model.")
@json_option
def audit(version: str, quick: bool, as_json: bool) -> None:
    """Run the leak audits on a model: VERSION, champion (by default) or challenger.

    Exit status 1 where one fails. One that the stored data cannot decide is not checked: a warning
    that says why.
    """
    from flash_pipeline.evaluation.audits import audit_version
    from flash_pipeline.settings import Settings

    results = audit_version(Settings.from_environment(), version, train=not quick)
    failed = any(each.failed for each in results)
    if as_json:
        audits = [dataclasses.asdict(each) for each in results]
        unchecked = [each.audit for each in results if not each.checked]
        answer = {"version": version, "passed": not failed, "not_checked": unchecked}
        print_json({**answer, "audits": audits})
    else:
        _print(results)
    sys.exit(1 if failed else 0)


def _print(results: "tuple[AuditResult, ...]") -> None:
    lines = [(each.audit, _word(each), each.words) for each in results]
    colours = {"failed": "bold red", "not checked": "yellow"}
    styles = [colours.get(each.outcome, "") for each in results]
    print_table(("audit", "outcome", "what came of it"), lines, styles=styles)


def _word(result: "AuditResult") -> str:
    return "FAILED" if result.failed else result.outcome
