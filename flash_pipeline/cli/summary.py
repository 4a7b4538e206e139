"""What a run leaves behind, for the person who started it."""

import json

import click

from flash_pipeline.cli.output import prediction_words
from flash_pipeline.evaluation.forecasts import latest_forecasts
from flash_pipeline.market import compact_utc, iso_utc
from flash_pipeline.settings import Settings, redacted
from flash_pipeline.storage.warehouse import open_warehouse
from flash_pipeline.windows import read_windows


def print_summary(settings: Settings) -> None:
    """Print the forecasts of the run that has just ended, and where report, model and UI are."""
    frame = read_windows(settings.windows)
    made_at = int(frame.made_at_N[-1])
    with open_warehouse(settings.warehouse, read_only=True) as connection:
        rows = latest_forecasts(connection, frame.symbols, made_at).to_pylist()
    if rows:
        label = "  (SYNTHETIC MARKET)" if rows[0]["synthetic"] else ""
        click.echo(
            f"\nForecasts of {iso_utc(made_at)}, {frame.horizon} bars ahead, "
            f"model version {rows[0]['model_version']}{label}"
        )
    for row in rows:
        click.echo(f"  {row['symbol']:<12} {prediction_words(row['head'], row['prediction'])}")
    report = settings.reports / compact_utc(made_at) / "report.html"
    verdict = json.loads(report.with_name("metrics.json").read_text())["verdict"]
    click.echo(f"\nVerdict     {verdict['headline']}")
    click.echo(f"Report      {report}")
    click.echo(f"Forecasts   table forecasts in {settings.warehouse}")
    click.echo("Model       models:/flash-attention-trader@champion")
    click.echo(f"            with MLFLOW_TRACKING_URI={redacted(settings.tracking_uri)}")
    click.echo("UI          make dev  ->  http://127.0.0.1:3000 (Dagster), :5000 (MLflow)")
