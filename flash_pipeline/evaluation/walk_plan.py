"""The plan of a walk-forward: what all of its folds have in common, fixed before the first is run.

    <folder>/plan.json        recipe, models, and how the history is walked through
    <folder>/windows/         the windows, as they were then: an hourly run cuts new ones meanwhile
    <folder>/fold-<n>.parquet predictions of a fold
    <folder>/all.parquet      those of all folds, joined when the last one is there
    <folder>/scores.parquet   their measures

So a fold that failed is run again alone, be it days later, on exactly the data of the others.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flash_pipeline.errors import InvalidConfig, NotEnoughHistory, SchemaMismatch
from flash_pipeline.evaluation.contenders import CONTENDERS, ENSEMBLE, contenders
from flash_pipeline.evaluation.scores import score
from flash_pipeline.evaluation.walkforward import is_of, join_folds
from flash_pipeline.storage.files import replacing_file, replacing_folder, write_parquet
from flash_pipeline.training.baselines import BASELINES
from flash_pipeline.training.recipes import Recipe
from flash_pipeline.windows import Fold, WalkForwardConfig, WindowFrame, read_windows, walk_forward

PLAN_FILE = "plan.json"
"""Recipe, models, folds, snapshot."""

WINDOWS_FOLDER = "windows"
"""The windows of the plan."""

JOINED_FILE = "all.parquet"
"""Predictions of all folds: `walkforward.PREDICTION_SCHEMA`."""

SCORES_FILE = "scores.parquet"
"""Their measures: `scores.SCORE_SCHEMA`."""

_FORMAT = 1
_KEY = b"plan"


@dataclass(frozen=True)
class WalkPlan:
    """A walk-forward over stored windows."""

    folder: Path
    """Where its files lie."""
    recipe: Recipe
    """Of the transformer."""
    models: tuple[str, ...]
    """Of `contenders.CONTENDERS`."""
    config: WalkForwardConfig
    """How the history is walked through."""
    snapshot: str
    """Hash of the windows."""

    @property
    def key(self) -> str:
        """Names the walk-forward: equal keys give equal predictions."""
        values = [self.recipe.fingerprint(self.snapshot), self.models, asdict(self.config)]
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]

    @property
    def joined(self) -> Path:
        """File of the predictions of all folds."""
        return self.folder / JOINED_FILE

    @property
    def scores(self) -> Path:
        """File of their measures."""
        return self.folder / SCORES_FILE

    def fold_path(self, number: int) -> Path:
        """Return the file of a fold's predictions."""
        return self.folder / f"fold-{number}.parquet"

    def windows(self) -> WindowFrame:
        """Return the windows of the plan.

        Raises
        ------
        SchemaMismatch
            If they are not there or are others, as after a copy that was cut off.
        """
        try:
            frame = read_windows(self.folder / WINDOWS_FOLDER)
        except NotEnoughHistory as error:
            raise SchemaMismatch(f"{self.folder} has lost its windows: plan it anew") from error
        if frame.snapshot != self.snapshot:
            raise SchemaMismatch(
                f"{self.folder} holds windows of snapshot {frame.snapshot}, its plan is of "
                f"{self.snapshot}: plan it anew"
            )
        return frame

    def fold(self, frame: WindowFrame, number: int) -> Fold:
        """Return a fold by its number, from 1.

        Raises
        ------
        InvalidConfig
            If the plan has no such fold.
        """
        if not 1 <= number <= self.config.folds:
            raise InvalidConfig(
                f"fold {number} is none of this walk-forward: expected 1 to {self.config.folds}"
            )
        return walk_forward(frame, self.config)[number - 1]

    def holds(self, frame: WindowFrame, fold: Fold) -> bool:
        """Say whether the predictions of a fold are stored."""
        return is_of(self.fold_path(fold.number), frame, fold, self.recipe, self.models)

    def missing(self, frame: WindowFrame) -> list[int]:
        """Return the numbers of the folds that are not stored yet."""
        folds = walk_forward(frame, self.config)
        return [fold.number for fold in folds if not self.holds(frame, fold)]

    def is_joined(self) -> bool:
        """Say whether what `finish` stores is there, and of this plan."""
        try:
            marks = [pq.read_schema(path).metadata or {} for path in (self.joined, self.scores)]
        except (OSError, pa.ArrowInvalid):
            return False
        return all(each.get(_KEY) == self.key.encode() for each in marks)

    def finish(self, frame: WindowFrame) -> tuple[pa.Table, pa.Table]:
        """Join the folds, measure them, and store both.

        Returns
        -------
        predictions, scores : pa.Table
            As stored in `joined` and `scores`.

        Raises
        ------
        NotEnoughHistory
            If folds are missing, by number; what was joined before stays.
        """
        missing = self.missing(frame)
        if missing:
            raise NotEnoughHistory(
                f"folds {', '.join(map(str, missing))} of {self.config.folds} are not stored: "
                "materialize these partitions of walk_forward_folds first"
            )
        paths = [self.fold_path(number + 1) for number in range(self.config.folds)]
        table = self._marked(join_folds(paths, self.joined))
        scores = self._marked(score(table))
        write_parquet(scores, self.scores)
        write_parquet(table, self.joined)
        return table, scores

    def _marked(self, table: pa.Table) -> pa.Table:
        return table.replace_schema_metadata({**(table.schema.metadata or {}), _KEY: self.key})

    def to_dict(self) -> dict[str, Any]:
        """Return what `plan.json` holds."""
        return {
            "format": _FORMAT,
            "key": self.key,
            "snapshot": self.snapshot,
            "models": list(self.models),
            "config": asdict(self.config),
            "recipe": self.recipe.to_dict(),
        }


def load_plan(folder: Path) -> WalkPlan:
    """Return the plan stored in a folder.

    Raises
    ------
    NotEnoughHistory
        If there is none.
    SchemaMismatch
        If it is of another format, or was made by other code: its folds would differ.
    """
    path = folder / PLAN_FILE
    if not path.is_file():
        raise NotEnoughHistory(f"no walk-forward in {folder}: materialize walk_forward_plan first")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != _FORMAT:
            raise SchemaMismatch(
                f"{path} is of format {values['format']!r}: expected {_FORMAT}; plan it anew"
            )
        plan = WalkPlan(
            folder=folder,
            recipe=Recipe.from_dict(values["recipe"]),
            models=tuple(values["models"]),
            config=WalkForwardConfig(**values["config"]),
            snapshot=values["snapshot"],
        )
        known = plan.key == values["key"]
    except (ValueError, KeyError, TypeError) as error:
        raise SchemaMismatch(f"{path} holds no plan of this version: {error}") from error
    if not known:
        raise SchemaMismatch(f"{path} was made by other code than this: plan it anew")
    return plan


def make_plan(
    folder: Path,
    windows: Path,
    recipe: Recipe,
    config: WalkForwardConfig,
    models: Sequence[str],
    *,
    fresh: bool = False,
) -> tuple[WalkPlan, str]:
    """Plan a walk-forward on the newest windows, or go on with one that is not finished.

    Folds that are stored stay, and count where they are of the plan: the rest is never joined.

    Parameters
    ----------
    folder : Path
        Where to store it.
    windows : Path
        The newest windows.
    recipe : Recipe
        Of the transformer.
    models : sequence of str
        Of `contenders.CONTENDERS`.
    fresh : bool
        Plan anew although a walk-forward by the same recipe, folds and models is not finished.

    Returns
    -------
    WalkPlan
        As stored.
    str
        In words, whether it is a new one.

    Raises
    ------
    InvalidConfig
        For an unknown model, or a recipe that the windows were not cut for.
    NotEnoughHistory
        If there are no windows or a fold is too short: see `folds.require_long_enough`. Nothing
        is stored then, and what was stays.
    """
    contenders(recipe, models)
    known = None if fresh else _unfinished(folder)
    if known is not None and (known.recipe, known.config, known.models) == (
        recipe,
        config,
        tuple(models),
    ):
        return known, f"goes on with the windows of snapshot {known.snapshot}"
    frame = read_windows(windows)
    _require_fit(frame, recipe)
    walk_forward(frame, config)
    plan = WalkPlan(folder, recipe, tuple(models), config, frame.snapshot)
    with replacing_folder(folder / WINDOWS_FOLDER) as temporary:
        shutil.copytree(windows, temporary, dirs_exist_ok=True)
    with replacing_file(folder / PLAN_FILE) as path:
        path.write_text(json.dumps(plan.to_dict(), indent=1) + "\n", encoding="utf-8")
    return plan, "begins on the newest windows"


def default_models() -> tuple[list[str], dict[str, str]]:
    """Return every contender that can run here but the ensemble, and why the others cannot."""
    left_out = {name: why for name, kind in BASELINES.items() if (why := kind.obstacle())}
    return [name for name in CONTENDERS if name not in {ENSEMBLE, *left_out}], left_out


def _unfinished(folder: Path) -> WalkPlan | None:
    """Return the stored plan where a fold or the join is missing; None where none can be used."""
    try:
        plan = load_plan(folder)
        missing = plan.missing(plan.windows())
        return plan if missing or not plan.is_joined() else None
    except (NotEnoughHistory, SchemaMismatch):
        return None


def _require_fit(frame: WindowFrame, recipe: Recipe) -> None:
    """Refuse windows that were cut for another recipe."""
    data = recipe.data
    wanted = (data.symbols, recipe.interval, data.lookback, data.horizon)
    found = (frame.symbols, frame.interval, frame.lookback, frame.horizon)
    if wanted != found:
        raise InvalidConfig(
            f"the windows are {frame.lookback} bars of {', '.join(frame.symbols)} at interval "
            f"{frame.interval.value}, horizon {frame.horizon}; the recipe {recipe.name!r} takes "
            f"{data.lookback} of {', '.join(data.symbols)} at {data.interval}, {data.horizon}: "
            "materialize window_tensors by it first"
        )
