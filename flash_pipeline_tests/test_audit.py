"""`make audit` never calls sound what it could not look up."""

import importlib.util

import pytest

from flash_pipeline_tests.pages import PROJECT

SPEC = importlib.util.spec_from_file_location("audit", PROJECT / ".ci" / "audit.py")
audit = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(audit)

SOUND = {"name": "numpy", "version": "2.4.6", "vulns": []}
OURS = {"name": "flash-pipeline", "skip_reason": "not on PyPI"}
FLAWED = {
    "name": "old",
    "version": "1.0",
    "vulns": [{"id": "CVE-2026-1", "fix_versions": ["1.1"]}],
}
UNKNOWN = {"name": "torch", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "status", "said"),
    [
        ([SOUND, OURS], 0, "1 packages, no known vulnerability"),
        ([SOUND, FLAWED], 1, "old 1.0: CVE-2026-1, mended in 1.1"),
        ([SOUND, UNKNOWN], 2, "NOT AUDITED: 1 of 2 packages"),
        ([FLAWED, UNKNOWN], 2, "CVE-2026-1"),
    ],
)
def test_what_was_not_looked_up_is_not_audited(packages, status, said):
    found, lines = audit.judge(packages)
    assert found == status
    assert said in "\n".join(lines)


def test_a_service_that_cannot_be_reached_fails_the_audit(monkeypatch, capsys):
    script = "import sys; print('no such host', file=sys.stderr); sys.exit(1)"
    monkeypatch.setattr(audit, "COMMAND", (audit.sys.executable, "-c", script))
    monkeypatch.setattr(audit.sys, "argv", ["audit.py"])
    assert audit.main() == 2
    assert "NOT AUDITED: no such host" in capsys.readouterr().out
