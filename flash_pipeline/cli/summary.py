"""What a run leaves behind, for the person who started it."""

import json

import click

from flash_pipeline.evaluation.forecasts import latest_forecasts
from flash_pipeline.market import iso_utc
from flash_pipeline.settings import Settings
from flash_pipeline.storage.warehouse import open_warehouse


def print_summary(settings: Settings) -> None:
    """Print the newest forecasts and where report, model and UI are."""
    with open_warehouse(settings.warehouse, read_only=True) as connection:
        rows = latest_forecasts(connection).to_pylist()
    if rows:
        newest = rows[0]
        label = "  (SYNTHETIC MARKET)" if newest["synthetic"] else ""
        click.echo(
            f"\nForecasts of {iso_utc(newest['made_at'])}, {newest['horizon']} bars ahead, "
            f"model version {newest['model_version']}{label}"
        )
        for row in rows:
            click.echo(f"  {row['symbol']:<12} {_words(row['head'], row['prediction'])}")
    reports = sorted(settings.reports.glob("2*/report.html"))
    if reports:
        metrics = json.loads((reports[-1].with_name("metrics.json")).read_text())
        click.echo(f"\nVerdict     {metrics['verdict']['headline']}")
        click.echo(f"Report      {reports[-1]}")
    click.echo(f"Forecasts   table forecasts in {settings.warehouse}")
    click.echo("Model       models:/flash-attention-trader@champion")
    click.echo(f"            with MLFLOW_TRACKING_URI={settings.tracking_uri}")
    click.echo("UI          make dev  ->  http://127.0.0.1:3000 (Dagster), :5000 (MLflow)")


def _words(head: str, prediction: float) -> str:
    if head == "direction":
        return f"{prediction:7.1%} probability of a rise"
    if head == "allocation":
        return f"{prediction:+7.2f} weight"
    return f"{prediction:+8.3%} log return"
