"""What README and data/README say is so."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from flash_pipeline.defs.assets import market_data, model, verdict
from flash_pipeline.settings import Settings
from flash_pipeline.training.recipes import RECIPES

PROJECT = Path(__file__).resolve().parents[1]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
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
    assets = {
        asset.key.to_user_string()
        for module in (market_data, model, verdict)
        for asset in vars(module).values()
        if hasattr(asset, "key") and hasattr(asset, "op")
    }
    assert len(assets) == 8
    for name in assets | set(RECIPES):
        assert f"| `{name}` |" in README


def test_the_files_of_the_home_are_described(tmp_path):
    described = (PROJECT / "data" / "README.md").read_text(encoding="utf-8")
    settings = Settings(home=tmp_path)
    paths = [
        settings.klines,
        settings.instruments,
        settings.warehouse,
        settings.windows,
        settings.reports,
        settings.checkpoints,
        settings.contest,
        settings.mlflow_database,
        settings.mlflow_artifacts,
        settings.dagster_home,
    ]
    for path in paths:
        assert f"`{path.name}" in described


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
