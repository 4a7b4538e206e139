"""Looks the installed packages up among the known vulnerabilities: `make audit`.

pip-audit leaves out, and succeeds, what its service does not know: behind a package index without
that service it would call everything sound. Here what was not looked up counts as not audited.

Exit status: 0 all looked up and sound, 1 a vulnerability is known, 2 not all could be looked up.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import Any

OWN = "flash-pipeline"
"""Not on any index: left out."""

COMMAND = (
    *(sys.executable, "-m", "pip_audit", "--local", "--format", "json", "--desc", "off"),
    *("--progress-spinner", "off"),
)
"""What is asked, before further options."""

_SHOWN = 5


def judge(packages: Iterable[Mapping[str, Any]]) -> tuple[int, list[str]]:
    """Return the exit status and what there is to say, for pip-audit's list of packages."""
    others = [each for each in packages if each["name"] != OWN]
    known = [
        f"{each['name']} {each['version']}: {flaw['id']}, mended in "
        f"{', '.join(flaw['fix_versions']) or 'no version yet'}"
        for each in others
        for flaw in each.get("vulns", ())
    ]
    unknown = [each["name"] for each in others if "skip_reason" in each]
    if unknown:
        more = ", ..." if len(unknown) > _SHOWN else ""
        known.append(
            f"NOT AUDITED: {len(unknown)} of {len(others)} packages could not be looked up "
            f"({', '.join(unknown[:_SHOWN])}{more}): the service cannot be reached from here, or "
            "does not know them"
        )
        return 2, known
    return (1, known) if known else (0, [f"{len(others)} packages, no known vulnerability"])


def main() -> int:
    """Audit the environment of this interpreter."""
    done = subprocess.run(
        [*COMMAND, *sys.argv[1:]],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        print(f"NOT AUDITED: {reason}")
        return 2
    status, lines = judge(packages)
    print("\n".join(lines))
    return status


if __name__ == "__main__":
    sys.exit(main())
