"""Draws the pictures of `docs/order-book.md`: `python -m benchmarks.book_pictures FOLDER`.

FOLDER is what `benchmarks/gpu/book_signal.py` wrote. The pictures are those of the report, of the
larger model that was trained there, at the horizons of `SHOWN`; `--beside` adds the forecasts of
another run on the same windows.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flash_pipeline.evaluation.book_figures import (
    gain_picture,
    interaction_picture,
    lags_picture,
    levels_picture,
    reliability_picture,
)
from flash_pipeline.evaluation.book_scores import HeldOut, calibration, score
from flash_pipeline.training.book_results import BookAttention

PROJECT = Path(__file__).resolve().parents[1]
CADENCE_MS = 1_000
HORIZONS = (1, 10, 30)
SHOWN = 2
"""Horizons that are drawn, the first ones: thresholds at 30 s have changed since that run."""


def main() -> None:
    """Draw them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=PROJECT / "docs" / "images")
    parser.add_argument("--beside", type=Path, help="a `probabilities.npz` with further forecasts")
    options = parser.parse_args()
    run = json.loads((options.folder / "book_signal.json").read_text())
    told = np.load(options.folder / "probabilities.npz", allow_pickle=False)
    seen = np.load(options.folder / "attention.npz", allow_pickle=False)
    held = HeldOut(
        told["time"],
        told["label"][:, :SHOWN],
        told["move"][:, :SHOWN],
        HORIZONS[:SHOWN],
        run["options"]["stride"] * CADENCE_MS,
        CADENCE_MS,
        run["options"]["history"],
    )
    forecasts = _forecasts(told)
    if options.beside:
        more = np.load(options.beside, allow_pickle=False)
        assert (more["time"] == told["time"]).all(), "of other windows"
        forecasts = _forecasts(more) | forecasts
    attention = BookAttention(seen["by_cell"].mean(1), seen["by_lag"].mean(1), windows=64)
    pictures = {
        "gain": gain_picture([row for row in score(held, forecasts) if row.horizon]),
        "reliability": reliability_picture(
            {name: calibration(held, forecasts[name]) for name in ("joint", "imbalance")}
        ),
        "levels": levels_picture(attention),
        "interactions": interaction_picture(attention),
        "lags": lags_picture(attention, CADENCE_MS),
    }
    for name, png in pictures.items():
        (options.out / f"order-book-{name}.png").write_bytes(png)


def _forecasts(told: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the probabilities of the horizons that are drawn, by the name of the model."""
    return {
        name: told[name][:, :SHOWN].astype(np.float32)
        for name in told
        if name not in ("time", "label", "move")
    }


if __name__ == "__main__":
    main()
