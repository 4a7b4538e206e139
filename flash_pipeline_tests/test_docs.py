"""What README and data/README say is so."""

import importlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from flash_pipeline.defs.assets import ASSETS
from flash_pipeline.exchange.faults import KINDS
from flash_pipeline.ingest import Ledger
from flash_pipeline.market import Interval
from flash_pipeline.settings import Settings
from flash_pipeline.storage.warehouse import open_warehouse
from flash_pipeline.training.recipes import RECIPES

PROJECT = Path(__file__).resolve().parents[1]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
MARKET_DATA = (PROJECT / "docs" / "market-data.md").read_text(encoding="utf-8")
MAKEFILE = (PROJECT / "Makefile").read_text(encoding="utf-8")


def test_every_make_command_of_the_readme_is_a_target():
    targets = set(re.findall(r"^([a-z-]+):.*##", MAKEFILE, flags=re.M))
    assert set(re.findall(r"\bmake ([a-z-]+)\b", README)) <= targets
    assert {"run", "test", "check", "dev", "bench", "help"} <= targets


def test_every_variable_of_a_make_command_is_read_by_the_makefile():
    for name in re.findall(r"\b([A-Z]+)=\S+", "\n".join(re.findall(r"make run .*", README))):
        assert f"$({name})" in MAKEFILE


def test_the_settings_listed_are_those_that_are_read():
    listed = set(re.findall(r"^\| `([A-Z_]+)` \|", README, flags=re.M))
    source = (PROJECT / "flash_pipeline" / "settings.py").read_text(encoding="utf-8")
    source += (PROJECT / "flash_pipeline" / "defs" / "instance.py").read_text(encoding="utf-8")
    assert listed == set(re.findall(r'values\.get\("([A-Z_]+)"\)', source))


def test_every_asset_and_recipe_is_described():
    assets = {asset.key.to_user_string() for asset in ASSETS}
    assert len(assets) == 24
    for name in assets | set(RECIPES):
        assert f"| `{name}` |" in README


def test_the_files_of_the_home_are_described(tmp_path):
    described = (PROJECT / "data" / "README.md").read_text(encoding="utf-8")
    settings = Settings(home=tmp_path)
    paths = [
        settings.klines,
        settings.mark_klines,
        settings.funding,
        settings.tickers,
        settings.bybit_circuit,
        settings.instruments,
        settings.warehouse,
        settings.windows,
        settings.reports,
        settings.market_panel,
        settings.portfolio,
        settings.portfolio_report,
        settings.checkpoints,
        settings.contest,
        settings.walk_forward,
        settings.mlflow_database,
        settings.mlflow_artifacts,
        settings.dagster_home,
    ]
    for path in paths:
        assert f"`{path.name}" in described


def test_every_query_of_the_page_on_market_data_runs(tmp_path):
    ledger = Ledger(tmp_path / "warehouse.duckdb", "bybit", Interval.HOUR_1)
    ledger.replace_open_gaps({})
    queries = re.findall(r"```sql\n(.*?)```", MARKET_DATA, flags=re.S)
    assert len(queries) == 2
    with open_warehouse(ledger.warehouse) as warehouse:
        for query in queries:
            assert warehouse.execute(query).fetchall() == []


def test_every_option_of_a_command_is_one():
    told = README + MARKET_DATA
    lines = re.findall(r"(flash_pipeline(?:\.exchange| [a-z][a-z-]+))(.* --.*)", told)
    assert len(lines) >= 2
    for command, rest in lines:
        words = [sys.executable, "-m", *command.split(), "--help"]
        known = subprocess.run(words, capture_output=True, text=True, timeout=60).stdout
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in known, (command, option)


def test_every_page_that_is_linked_to_is_there():
    pages = [PROJECT / "README.md", PROJECT / "CHANGELOG.md", *(PROJECT / "docs").rglob("*.md")]
    for page in pages:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert link.startswith("https://") or (page.parent / link).exists(), (page, link)


def test_git_ignores_the_home_but_for_its_description():
    ignored = (PROJECT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "/data/*" in ignored
    assert "!/data/README.md" in ignored


def test_the_packages_asked_for_are_declared():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[<>=\[]", line)[0] for line in project["dependencies"]}
    assert {
        "dagster",
        "dagster-webserver",
        "torch",
        "pandas",
        "pyarrow",
        "duckdb",
        "requests",
        "mlflow",
    } <= declared
    assert project["optional-dependencies"]["gpu"][0].startswith("flash-attn")


def test_no_file_of_the_package_or_its_tests_grows_past_400_lines():
    folders = ("flash_pipeline", "flash_pipeline_tests", "benchmarks")
    sizes = {
        path: len(path.read_text(encoding="utf-8").splitlines())
        for folder in folders
        for path in (PROJECT / folder).rglob("*.py")
    }
    assert {str(path): size for path, size in sizes.items() if size > 400} == {}


@pytest.mark.slow
def test_the_registry_lookup_of_the_readme_predicts(tmp_path, monkeypatch, capsys):
    from flash_pipeline_tests.defs.conftest import small_chain

    code = next(b for b in re.findall(r"```python\n(.*?)```", README, flags=re.S) if "mlflow" in b)
    with small_chain(tmp_path / "data") as chain:
        chain.home.mkdir()
        assert chain.run().success
        monkeypatch.chdir(tmp_path)
        scope: dict[str, object] = {}
        exec(compile(code, "README.md", "exec"), scope)
    predicted = scope["model"].predict(scope["windows"])
    assert predicted.shape == (3, 2)
    assert np.isfinite(predicted).all()
    assert "[[" in capsys.readouterr().out


def test_every_kind_of_fault_is_listed():
    kinds = MARKET_DATA.partition("## The embedded exchange")[2].partition("## Measured")[0]
    for name in KINDS:
        assert f"`{name}`" in kinds
    assert f"{len(KINDS)}\nkinds" in README or f"{len(KINDS)} kinds" in README


def test_the_measured_figures_are_those_of_the_newest_results(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT / "benchmarks" / "ingest")
    measured = importlib.import_module("document").measured
    newest = max((PROJECT / "benchmarks" / "results").glob("ingest_*.json"))
    assert MARKET_DATA.endswith(measured(json.loads(newest.read_text())))
