"""The docs site: whole, offline, and with a page for everything."""

import os
import re
import subprocess
import sys

import pytest
import yaml

from flash_pipeline.features import CATALOG
from flash_pipeline_tests.pages import PROJECT, text_of

CONFIG = yaml.safe_load(text_of("mkdocs.yml"))


def pages_of(nav) -> set[str]:
    if isinstance(nav, str):
        return {nav}
    return set().union(*map(pages_of, nav.values() if isinstance(nav, dict) else nav))


def test_every_page_is_in_the_navigation():
    pages = {p.relative_to(PROJECT / "docs").as_posix() for p in (PROJECT / "docs").rglob("*.md")}
    pages |= {f"notebooks/{p.stem}.md" for p in (PROJECT / "notebooks").glob("*.ipynb")}
    made = {"index.md", "changelog.md", "security.md", "home.md"}
    assert pages_of(CONFIG["nav"]) == pages | made


def test_every_package_of_the_library_has_its_reference():
    described = {
        name
        for page in (PROJECT / "docs" / "reference" / "api").glob("*.md")
        for name in re.findall(r"::: flash_pipeline\.(\w+)", page.read_text())
    }
    folders = {p.parent.name for p in (PROJECT / "flash_pipeline").glob("*/__init__.py")}
    inner = {"archives", "cli", "defs", "transport", "yahoo"}  # used through the others
    assert described == (folders - inner) | {"settings", "errors"}


def test_the_catalog_of_features_is_that_of_the_code():
    rows = re.findall(r"^\| `\w+` \|.*$", text_of("docs/reference/features.md"), flags=re.M)
    assert rows == [f"| `{f.name}` | {f.unit} | {f.warmup} | {f.formula} |" for f in CATALOG]


@pytest.mark.slow
def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path):
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=PROJECT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert built.returncode == 0, built.stderr
    home = (tmp_path / "site" / "index.html").read_text()
    assert "tutorial.html" in home
    loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="([^"]+)"', home)
    loaded += re.findall(
        r'<link[^>]* rel="(?:stylesheet|preconnect|icon)"[^>]* href="([^"]+)"', home
    )
    loaded += re.findall(
        r'<link[^>]* href="([^"]+)"[^>]* rel="(?:stylesheet|preconnect|icon)"', home
    )
    assert len(loaded) > 2
    assert [link for link in loaded if "//" in link] == []
    trader = (tmp_path / "site" / "reference" / "api" / "model.html").read_text()
    assert "FlashAttentionTrader" in trader
    assert (tmp_path / "site" / "notebooks" / "05_backtesting_2.png").is_file()
