"""What README and data/README say is so."""

import importlib
import json
import re
import tomllib

import numpy as np
import pytest

from flash_pipeline.defs.assets import ASSETS
from flash_pipeline.exchange.faults import KINDS
from flash_pipeline.ingest import Ledger
from flash_pipeline.market import Interval
from flash_pipeline.settings import Settings
from flash_pipeline.storage.warehouse import open_warehouse
from flash_pipeline.training.recipes import RECIPES
from flash_pipeline_tests.pages import PAGES, PROJECT, blocks, text_of

README = text_of("README.md")
MARKET_DATA = text_of("docs/market-data.md")
TABLES = [README, *(text_of(f"docs/reference/{name}.md") for name in ("settings", "graph"))]


def test_the_settings_listed_are_those_that_are_read():
    listed = set(re.findall(r"^\| `([A-Z_]+)` \|", "\n".join(TABLES), flags=re.M))
    source = (PROJECT / "flash_pipeline" / "settings.py").read_text(encoding="utf-8")
    source += (PROJECT / "flash_pipeline" / "defs" / "instance.py").read_text(encoding="utf-8")
    assert listed == set(re.findall(r'values\.get\("([A-Z_]+)"\)', source))


def test_every_asset_and_recipe_is_described():
    assets = {asset.key.to_user_string() for asset in ASSETS}
    assert len(assets) == 24
    for name in assets | set(RECIPES):
        assert any(f"| `{name}` |" in table for table in TABLES)


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
        settings.order_book,
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


def test_every_page_that_is_linked_to_is_there():
    for page in PAGES:
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
def test_the_programs_of_the_readme_and_the_tutorial_give_a_forecast(tmp_path, monkeypatch, capsys):
    from flash_pipeline_tests.defs.conftest import small_chain

    lookup = next(block for block in blocks(README, "python") if "mlflow" in block)
    programs = [*blocks(README, "python"), *blocks(text_of("docs/tutorial.md"), "python")]
    with small_chain(tmp_path / "data") as chain:
        chain.home.mkdir()
        assert chain.run().success
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PYTHONPATH", str(PROJECT))
        for code in programs:
            scope: dict[str, object] = {}
            capsys.readouterr()
            exec(compile(code, "program", "exec"), scope)
            said = capsys.readouterr().out
            assert "BTCUSDT" in said or code == lookup, code
            if code == lookup and "windows" in scope:
                predicted = scope["model"].predict(scope["windows"])
                assert predicted.shape == (3, 2)
                assert np.isfinite(predicted).all()
                assert "[[" in said


def test_the_figures_that_the_readme_opens_with_are_those_of_its_table():
    claim = README.partition("- **Fast.**")[2].partition("- **")[0]
    table = README.partition("<!-- result: summary -->")[2]
    figures = re.findall(r"([\d.]+) ms", claim)
    assert len(figures) == 3
    for figure in figures:
        assert re.search(rf"\| {re.escape(figure)} +\|", table)


def test_the_figures_of_long_sequences_are_those_of_their_table():
    section = README.partition("## Long sequences")[2].partition("\n## ")[0]
    table = text_of("docs/performance.md").partition("<!-- result: sequences -->")[2]
    for name, claim in zip(("order book", "portfolio"), section.split("\n- ")[1:], strict=True):
        (tokens,) = re.findall(r"([\d,]+) tokens", claim)
        step, call = re.findall(r"([\d.]+) ms", claim)
        (gib,) = re.findall(r"([\d.]+) GiB", claim)
        figures = {}
        for line in table.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if cells[0] == name and cells[2:4] == ["2 heads x 64, causal", tokens]:
                figures[cells[1]] = (cells[6], float(cells[7]))
        assert figures["train step"][0] == step
        assert figures["prediction"][0] == call
        assert round(figures["prediction"][1], 2) == float(gib)


def test_extras_that_the_pages_install_are_declared():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {
        extra
        for page in PAGES
        for names in re.findall(r"\.\[([\w,-]+)\]", page.read_text(encoding="utf-8"))
        for extra in names.split(",")
    }
    assert {"gpu-4", "latency", "portfolio"} <= named <= set(project["optional-dependencies"])


def test_every_kind_of_fault_is_listed():
    kinds = MARKET_DATA.partition("## The embedded exchange")[2].partition("## Measured")[0]
    for name in KINDS:
        assert f"`{name}`" in kinds
    sources = " ".join(text_of("docs/how-to/data-sources.md").split())
    assert f"({len(KINDS)} kinds" in sources


def test_the_measured_figures_are_those_of_the_newest_results(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT / "benchmarks" / "ingest")
    measured = importlib.import_module("document").measured
    newest = max((PROJECT / "benchmarks" / "results").glob("ingest_*.json"))
    assert MARKET_DATA.endswith(measured(json.loads(newest.read_text())))
