"""Out-of-sample predictions of every model over the folds of a walk-forward, in one table.

A fold is run and stored on its own, so a failed one is run again alone; the folds are then joined
into one file. Shape letters: N windows, S symbols.
"""

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flash_pipeline.errors import ModelError, NotEnoughHistory, SchemaMismatch
from flash_pipeline.evaluation.contenders import Fit, Network, contenders
from flash_pipeline.storage.files import write_parquet
from flash_pipeline.training.baselines import Forecaster
from flash_pipeline.training.predictor import Predictions
from flash_pipeline.training.recipes import Recipe
from flash_pipeline.windows.blocks import WindowFrame
from flash_pipeline.windows.folds import Fold

_META = b"walk_forward"

PREDICTION_SCHEMA = pa.schema(
    [
        pa.field("fold", pa.int32(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("head", pa.string(), nullable=False),
        pa.field("made_at", pa.int64(), nullable=False),
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("prediction", pa.float32(), nullable=False),
        pa.field("label", pa.float32()),
        pa.field("label_end", pa.int64(), nullable=False),
        pa.field("lower", pa.float32()),
        pa.field("upper", pa.float32()),
        pa.field("unit", pa.float32()),
    ]
)
"""Columns of the predictions, by fold, model, `made_at` and symbol.

`made_at` and `label_end` are the closes of the last bar seen and of the last bar of the label, ms
since the epoch, UTC. `prediction` is in the unit of `head`: log return over the horizon (of a
quantile head the median), probability of a rise, or weight. `label` is the log return over the
horizon, null where it is not known. `lower` and `upper` are the outer quantiles, null without.
`unit` is what a scaled output of 1 comes to there, in proportion to the moment's volatility of a
model that is scaled by it; null of a model that is not scaled."""


@dataclass(frozen=True)
class WalkForwardMeta:
    """What a table of predictions was made from: equal metas may be joined."""

    snapshot: str
    """Hash of the windows."""
    interval: str
    """Candle interval by the exchange's code."""
    horizon: int
    """Bars ahead that is predicted."""
    synthetic: bool
    """Whether a simulator made the candles."""
    recipe: str
    """Fingerprint of the recipe on these windows."""
    symbols: tuple[str, ...]
    """Order of the symbols."""
    levels: Mapping[str, tuple[float, float]]
    """Levels of `lower` and `upper`, of each model that has them."""
    scales: Mapping[str, tuple[float, ...]]
    """Root mean square of the predictions over each fold's validation range, of each model that
    has it: positions are sized by it. See `ModelBundle.prediction_scale`."""
    folds: tuple[Mapping[str, Any], ...]
    """Of each fold its number and its ranges in absolute dates: see `Fold.to_dict`."""


@dataclass(frozen=True)
class FoldRun:
    """What running a fold gave."""

    table: pa.Table
    """Predictions of the test range, `PREDICTION_SCHEMA`, described in its metadata."""
    models: Mapping[str, Forecaster]
    """The fitted models."""
    seconds: Mapping[str, float]
    """Time to fit and predict, of each model."""


def run_fold(frame: WindowFrame, fold: Fold, recipe: Recipe, names: Sequence[str]) -> FoldRun:
    """Fit every model on a fold's training range and predict its test range.

    Parameters
    ----------
    recipe : Recipe
        Of the transformer.
    names : sequence of str
        Models, of `contenders.CONTENDERS`.

    Raises
    ------
    InvalidConfig
        As for `contenders.contenders`.
    ModelError
        If a model cannot be fitted or predicts no number; nothing of the fold is kept then.
    """
    models: dict[str, Forecaster] = {}
    seconds: dict[str, float] = {}
    tables = []
    for name, fit in contenders(recipe, names).items():
        begun = time.perf_counter()
        models[name], predictions = _fitted(frame, fold, fit)
        seconds[name] = time.perf_counter() - begun
        tables.append(_rows(frame, fold, name, models[name], predictions))
    meta = WalkForwardMeta(
        snapshot=frame.snapshot,
        interval=frame.interval.value,
        horizon=frame.horizon,
        synthetic=frame.synthetic,
        recipe=recipe.fingerprint(frame.snapshot),
        symbols=frame.symbols,
        levels={name: pair for name, model in models.items() for pair in _outer(model)},
        scales={
            name: (model.prediction_scale,)
            for name, model in models.items()
            if isinstance(model, Network)
        },
        folds=(fold.to_dict(frame),),
    )
    return FoldRun(_described(pa.concat_tables(tables), meta), models, seconds)


def join_folds(paths: Sequence[Path], path: Path) -> pa.Table:
    """Join the stored tables of the folds into one Parquet file, whole or not at all.

    Parameters
    ----------
    paths : sequence of Path
        A file for each fold, in any order.
    path : Path
        The file to write.

    Returns
    -------
    pa.Table
        What was written, by fold.

    Raises
    ------
    NotEnoughHistory
        If there is no file, or one of the folds from 1 to the highest number is missing.
    SchemaMismatch
        If a file is no table of predictions, or is of other windows, another recipe or other
        models than the rest; what was joined before stays.
    """
    tables = [read_predictions(one) for one in paths]
    metas = [describe_predictions(table) for table in tables]
    _require_one_run(paths, tables, metas)
    order = np.argsort([meta.folds[0]["fold"] for meta in metas])
    folds = tuple(fold for place in order for fold in metas[place].folds)
    scales = {
        name: tuple(scale for place in order for scale in metas[place].scales[name])
        for name in metas[0].scales
    }
    meta = dataclasses.replace(metas[0], folds=folds, scales=scales)
    bare = [tables[place].replace_schema_metadata(None) for place in order]
    joined = _described(pa.concat_tables(bare), meta)
    write_parquet(joined, path)
    return joined


def add_models(table: pa.Table, other: pa.Table) -> pa.Table:
    """Return two walk-forwards over the same folds, with other models each, as one.

    Their recipes may differ, that of the first is kept on record: such as baselines that were run
    on another machine.

    Raises
    ------
    SchemaMismatch
        If the windows or the folds differ, or a model is in both.
    """
    metas = [describe_predictions(one) for one in (table, other)]
    same = [dataclasses.replace(meta, recipe="", levels={}, scales={}) for meta in metas]
    if same[0] != same[1]:
        raise SchemaMismatch("the predictions are of other windows or folds: expected the same")
    twice = sorted(set(_models(table)) & set(_models(other)))
    if twice:
        raise SchemaMismatch(f"both have predictions of {', '.join(twice)}: expected other models")
    levels, scales = ({**a, **b} for a, b in zip(*map(_by_model, metas), strict=True))
    meta = dataclasses.replace(metas[0], levels=levels, scales=scales)
    joined = pa.concat_tables([one.replace_schema_metadata(None) for one in (table, other)])
    return _described(joined.sort_by([("fold", "ascending")]), meta)


def write_predictions(table: pa.Table, path: Path) -> None:
    """Store the predictions of a fold, whole or not at all."""
    write_parquet(table, path)


def read_predictions(path: Path) -> pa.Table:
    """Return stored predictions, of one fold or joined.

    Raises
    ------
    NotEnoughHistory
        If there is no such file.
    SchemaMismatch
        If it holds something else.
    """
    if not path.is_file():
        raise NotEnoughHistory(f"no predictions in {path}: run the walk-forward first")
    try:
        table = pq.read_table(path, partitioning=None)
    except (OSError, pa.ArrowInvalid) as error:
        raise SchemaMismatch(f"{path} holds no readable predictions: {error}") from error
    if not table.schema.equals(PREDICTION_SCHEMA) or _META not in (table.schema.metadata or {}):
        raise SchemaMismatch(
            f"{path} has the columns {table.schema.names}, expected {PREDICTION_SCHEMA.names} "
            "and their description"
        )
    return table


def describe_predictions(table: pa.Table) -> WalkForwardMeta:
    """Return what a table of predictions was made from.

    Raises
    ------
    SchemaMismatch
        If another version of this package described it otherwise.
    """
    try:
        values = json.loads(table.schema.metadata[_META])
        return WalkForwardMeta(
            **{
                **values,
                "symbols": tuple(values["symbols"]),
                "levels": {name: tuple(pair) for name, pair in values["levels"].items()},
                "scales": {name: tuple(each) for name, each in values["scales"].items()},
                "folds": tuple(values["folds"]),
            }
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SchemaMismatch(
            f"predictions of another version of the package ({error!r}): run the folds again"
        ) from error


def is_of(path: Path, frame: WindowFrame, fold: Fold, recipe: Recipe, names: Sequence[str]) -> bool:
    """Say whether a file holds the predictions of exactly this fold, recipe and models."""
    try:
        table = read_predictions(path)
        meta = describe_predictions(table)
    except (NotEnoughHistory, SchemaMismatch):
        return False
    return (
        meta.recipe == recipe.fingerprint(frame.snapshot)
        and meta.folds == (fold.to_dict(frame),)
        and _models(table) == sorted(names)
    )


def _fitted(frame: WindowFrame, fold: Fold, fit: Fit) -> tuple[Forecaster, Predictions]:
    model = fit(frame, fold.split)
    return model, model.predict(frame, fold.split.test_N)


def _rows(
    frame: WindowFrame, fold: Fold, name: str, model: Forecaster, predictions: Predictions
) -> pa.Table:
    """Return one row per date and symbol."""
    index_N, symbols = fold.split.test_N, len(frame.symbols)
    if not np.isfinite(predictions.value_NS).all():
        raise ModelError(f"{name} predicts NaN in fold {fold.number}: expected finite numbers")
    rows = predictions.value_NS.size
    lower = upper = unit = pa.nulls(rows, pa.float32())
    if predictions.quantiles_NSQ is not None:
        lower, upper = (_flat(predictions.quantiles_NSQ[..., q]) for q in (0, -1))
    if isinstance(model, Network):
        unit = _flat(model.unit(frame, index_N))
    columns = [
        pa.array(np.full(rows, fold.number, np.int32)),
        pa.array([name] * rows, pa.string()),
        pa.array([model.head] * rows, pa.string()),
        pa.array(np.repeat(frame.made_at_N[index_N], symbols)),
        pa.array(list(frame.symbols) * len(index_N), pa.string()),
        _flat(predictions.value_NS),
        _flat(frame.label_NS[index_N]),
        pa.array(np.repeat(frame.label_end_N[index_N], symbols)),
        lower,
        upper,
        unit,
    ]
    return pa.Table.from_arrays(columns, schema=PREDICTION_SCHEMA)


def _flat(values_NS: npt.NDArray[np.floating]) -> pa.Array:
    return pa.array(values_NS.astype(np.float32).reshape(-1), from_pandas=True)


def _outer(model: Forecaster) -> list[tuple[float, float]]:
    """Return the lowest and the highest level of a model's quantiles, none without."""
    levels = model.levels if isinstance(model, Network) else ()
    return [(levels[0], levels[-1])] if levels else []


def _described(table: pa.Table, meta: WalkForwardMeta) -> pa.Table:
    text = json.dumps(dataclasses.asdict(meta), sort_keys=True)
    return table.replace_schema_metadata({_META: text.encode()})


def _require_one_run(
    paths: Sequence[Path], tables: Sequence[pa.Table], metas: Sequence[WalkForwardMeta]
) -> None:
    if not paths:
        raise NotEnoughHistory("no folds to join: run them first")
    first = (_bare(metas[0]), _models(tables[0]))
    for path, table, meta in zip(paths, tables, metas, strict=True):
        if (_bare(meta), _models(table)) != first:
            raise SchemaMismatch(
                f"{path} is of other windows, another recipe or other models than {paths[0]}: "
                "run the folds of one walk-forward again"
            )
    numbers = sorted(fold["fold"] for meta in metas for fold in meta.folds)
    if numbers != list(range(1, len(numbers) + 1)):
        raise NotEnoughHistory(
            f"folds {', '.join(map(str, numbers))} are stored: expected 1 to {max(numbers)}, each "
            "once; run the missing ones"
        )


def _models(table: pa.Table) -> list[str]:
    return sorted(pc.unique(table["model"]).to_pylist())


def _bare(meta: WalkForwardMeta) -> WalkForwardMeta:
    """Return what all folds of a walk-forward have in common."""
    return dataclasses.replace(meta, folds=(), scales={})


def _by_model(meta: WalkForwardMeta) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    return meta.levels, meta.scales
