"""Metadata in the forms that Dagster's UI shows well."""

import base64
from typing import Any

import dagster as dg
import pyarrow as pa

from flash_pipeline.ingest import KlineRefresh
from flash_pipeline.market import iso_utc


def picture(png: bytes, title: str) -> dg.MarkdownMetadataValue:
    """Return a picture that the UI shows in a dialog."""
    encoded = base64.b64encode(png).decode()
    return dg.MetadataValue.md(f"![{title}](data:image/png;base64,{encoded})")


def instant(time_ms: int) -> dg.TimestampMetadataValue:
    """Return an instant (ms since the epoch) that the UI shows in the reader's time zone."""
    return dg.MetadataValue.timestamp(time_ms / 1000)


def span(first_ms: int | None, last_ms: int | None) -> str:
    """Return a span of time for people; `none` where there is none."""
    if first_ms is None or last_ms is None:
        return "none"
    return f"{iso_utc(first_ms)} to {iso_utc(last_ms)}"


def refresh_metadata(refresh: KlineRefresh) -> dict[str, Any]:
    """Return what a refresh of candles did."""
    return {
        "dagster/row_count": refresh.rows,
        "span": span(*(refresh.span or (None, None))),
        "missing_candles": refresh.missing,
        "missing_by_cause": dg.MetadataValue.json(dict(refresh.missing_by_cause)),
        "revisions": refresh.revisions,
        "requests": refresh.requests,
        "files_written": refresh.files_written,
        "source": refresh.source,
        "exchange_clock": instant(refresh.now),
        "clocks": dg.MetadataValue.json(dict(refresh.clocks)),
        "forgotten_symbols": dg.MetadataValue.json(list(refresh.forgotten)),
        "synthetic": refresh.synthetic,
    }


def column_schema(schema: pa.Schema) -> dg.TableSchema:
    """Return an Arrow schema as Dagster's, with the description of each column."""
    notes = {
        name.strip(): text.decode()
        for names, text in (schema.metadata or {}).items()
        for name in names.decode().split(",")
    }
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                field.name,
                str(field.type),
                description=notes.get(field.name),
                constraints=dg.TableColumnConstraints(nullable=field.nullable),
            )
            for field in schema
        ]
    )


def table(rows: pa.Table) -> dg.TableMetadataValue:
    """Return an Arrow table as one that the UI shows, with the descriptions of its columns."""
    return dg.MetadataValue.table(
        [dg.TableRecord(row) for row in rows.to_pylist()], column_schema(rows.schema)
    )
