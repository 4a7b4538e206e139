"""The hourly forecasts."""

import dagster as dg

from flash_pipeline.defs.assets.champion import champion
from flash_pipeline.defs.assets.model import window_tensors
from flash_pipeline.defs.metadata import column_schema, instant, picture
from flash_pipeline.defs.resources import PipelineResource
from flash_pipeline.windows import read_windows


@dg.asset(
    deps=[champion, window_tensors],
    group_name="verdict",
    kinds={"duckdb", "pytorch"},
    pool="duckdb",
)
def forecasts(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> dg.MaterializeResult:
    """The champion's forecast from the newest closed candle; earlier ones are scored."""
    from flash_pipeline.evaluation import FORECAST_SCHEMA, make_forecast, record_forecast
    from flash_pipeline.evaluation.figures import draw_forecast
    from flash_pipeline.storage.warehouse import open_warehouse
    from flash_pipeline.training.tracking import CHAMPION, Registry

    settings = pipeline.settings()
    frame, holder = read_windows(settings.windows), Registry(settings).require(CHAMPION)
    forecast = make_forecast(frame, holder.version, holder.bundle)
    with open_warehouse(settings.warehouse) as connection:
        record = record_forecast(connection, forecast, frame.interval)
    made_at = int(frame.made_at_N[-1])
    context.log.info(f"forecasts: {record.rows} made, {record.scored} earlier ones scored")
    rows = [dg.TableRecord(row) for row in forecast.to_pylist()]
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": record.rows,
            "dagster/column_schema": column_schema(FORECAST_SCHEMA),
            "made_at": instant(made_at),
            "scored": record.scored,
            "model_version": holder.version,
            "forecast": dg.MetadataValue.table(rows),
            "chart": picture(draw_forecast(forecast, pipeline.store(settings)), "forecast"),
            "path": dg.MetadataValue.path(settings.warehouse),
        }
    )
