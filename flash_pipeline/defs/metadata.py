"""Metadata in the forms that Dagster's UI shows well."""

import base64
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from flash_pipeline.ingest import KlineRefresh
from flash_pipeline.market import Month, iso_utc
from flash_pipeline.storage.funding import FundingStore
from flash_pipeline.storage.klines import KlineStore

if TYPE_CHECKING:
    from flash_pipeline.training.tracking import RegisteredModel, Registry

WIDEST = 1_000
"""Pixels of a picture's width; the dialog that the UI shows it in has 1,040."""

_MARKS = re.compile(r"[\\`*<>\[\]~|]|(?<!\w)_|_(?!\w)")  # what Markdown takes for its own


def picture(png: bytes, title: str) -> dg.MarkdownMetadataValue:
    """Return a picture that the UI shows in a dialog: a wider one is made smaller, to `WIDEST`."""
    encoded = base64.b64encode(_narrowed(png)).decode()
    return dg.MetadataValue.md(f"![{title}](data:image/png;base64,{encoded})")


def _narrowed(png: bytes) -> bytes:
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        if image.width <= WIDEST:
            return png
        size = (WIDEST, max(1, round(image.height * WIDEST / image.width)))
        smaller = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    smaller.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def prose(text: str) -> dg.MarkdownMetadataValue:
    """Return sentences, which the UI breaks into lines; as text they are one long line."""
    return dg.MetadataValue.md(_MARKS.sub(r"\\\g<0>", text))


def link(place: str) -> dg.MetadataValue[Any]:
    """Return an address of a web page as a link, and any other, such as `runs:/...`, as text."""
    is_page = place.startswith(("http://", "https://"))
    return dg.MetadataValue.url(place) if is_page else dg.MetadataValue.text(place)


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
    columns = [
        dg.TableColumn(each.name, "UTC", description=each.description, constraints=each.constraints)
        if _is_time(each.name)
        else each
        for each in column_schema(rows.schema).columns
    ]
    records = [readable(row) for row in rows.to_pylist()]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def readable(row: Mapping[str, Any]) -> dg.TableRecord:
    """Return a row for people: six digits of a number, instants (ms since the epoch) as UTC.

    Narrow columns keep the sentences beside the table within the page.
    """
    return dg.TableRecord({name: _readable(name, value) for name, value in row.items()})


def _readable(name: str, value: object) -> Any:  # noqa: ANN401  (what a TableRecord takes)
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return iso_utc(value) if _is_time(name) and isinstance(value, int) else value


def _is_time(name: str) -> bool:
    return name.endswith(("_at", "_time"))


def note_month_rows(context: dg.AssetExecutionContext, rows: Mapping[str, int]) -> None:
    """Give each month of a run the number of its own rows, for the plots by partition.

    `dagster/row_count` is that of the whole run.

    Parameters
    ----------
    rows : mapping of str to int
        By month, YYYY-MM; a month of the run that is absent has none.
    """
    for month in context.partition_keys:
        context.add_asset_metadata(
            {"dagster/partition_row_count": rows.get(month, 0)}, partition_key=month
        )


def rows_by_month(
    store: KlineStore | FundingStore, symbols: Iterable[str], first: Month, last: Month
) -> dict[str, int]:
    """Return the stored rows of the symbols in each month; a file that cannot be read has none."""
    rows: dict[str, int] = {}
    for symbol in symbols:
        for month in store.months(symbol):
            if first <= month <= last:
                found = _parquet_rows(store.path(symbol, month))
                rows[str(month)] = rows.get(str(month), 0) + found
    return rows


def _parquet_rows(path: Path) -> int:
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowInvalid):
        return 0  # a check tells of it


def newest_candles(store: KlineStore, symbols: Iterable[str]) -> dg.TableMetadataValue:
    """Return the newest stored candle of each symbol as a table."""
    newest = {
        symbol: store.read_month(symbol, store.months(symbol)[-1]).to_pylist()[-1:]
        for symbol in symbols
        if store.months(symbol)
    }
    rows = [
        readable({"symbol": symbol, **row}) for symbol, found in newest.items() for row in found
    ]
    return dg.MetadataValue.table(rows) if rows else no_rows("symbol")


def no_rows(*columns: str) -> dg.TableMetadataValue:
    """Return an empty table; Dagster needs columns where there is no row to read them from."""
    return dg.MetadataValue.table([], dg.TableSchema([dg.TableColumn(name) for name in columns]))


def version_links(registry: "Registry", model: "RegisteredModel") -> dict[str, Any]:
    """Return where a version is, in the registry, and the run that made it: pages where known."""
    return {
        "registry_version": link(registry.version_url(model)),
        "mlflow_run": link(registry.url(model)),
    }
