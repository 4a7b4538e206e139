"""The live record: what the forecasts made so far have been worth."""

import dagster as dg

from flash_pipeline.defs.assets.forecasts import forecasts
from flash_pipeline.defs.metadata import column_schema, picture, table
from flash_pipeline.defs.resources import PipelineResource

_SHOWN = 20


@dg.asset(deps=[forecasts], group_name="verdict", kinds={"duckdb"}, pool="duckdb")
def live_record(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> dg.MaterializeResult:
    """Realised IC, hit rate and calibration of the forecasts, by model version and week."""
    from flash_pipeline.evaluation import LIVE_SCHEMA, record_live, scored_forecasts
    from flash_pipeline.evaluation.live_figures import draw_live
    from flash_pipeline.storage.warehouse import open_warehouse
    from flash_pipeline.training.tracking import CHAMPION, Registry

    settings, interval = pipeline.settings(), pipeline.resolve().interval
    version = Registry(settings).require(CHAMPION).version
    with open_warehouse(settings.warehouse) as connection:
        record = record_live(connection, interval)
        scored = scored_forecasts(connection, interval, version)
    recent = [each.newest(RECENT_DATES) for each in scored][-1:]
    figures = {k: v for each in recent for k, v in each.figures.items() if v == v}
    dates = sum(len(each.made_at_N) for each in recent)
    context.log.info(f"live_record: {record.num_rows} rows, {dates} recent dates of the champion")
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": record.num_rows,
            "dagster/column_schema": column_schema(LIVE_SCHEMA),
            "dagster/table_name": "warehouse.main.live_record",
            "model_version": version,
            "recent_dates": dates,
            **{f"recent/{name}": value for name, value in figures.items()},
            "record": table(record.slice(max(0, record.num_rows - _SHOWN))),
            **({"chart": picture(draw_live(record), "live record")} if record.num_rows else {}),
            "path": dg.MetadataValue.path(settings.warehouse),
        }
    )


RECENT_DATES = 168
"""Newest scored dates of the champion that the figures over time are of: a week of hours."""
