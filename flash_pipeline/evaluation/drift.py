"""Whether the inputs still look like those that a model was fitted on.

Shape letters: T bars, S symbols, F features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flash_pipeline.errors import InvalidInput, NotEnoughHistory
from flash_pipeline.market import iso_utc
from flash_pipeline.training.bundle import Provenance
from flash_pipeline.windows.blocks import WindowFrame

Floats = npt.NDArray[np.floating]

MODERATE, SHIFTED = 0.1, 0.25
"""From these values on a population is said to have shifted somewhat, or much. (Siddiqi 2006,
Credit Risk Scorecards, chapter 10.)"""

BROKEN = 5.0
"""From this value on a single feature is worth a warning."""

RECENT_BARS = 720
"""Newest bars that are compared, unless asked otherwise: 30 days of hours."""

_BINS = 10
_LEAST_BARS = 10 * _BINS
_USUAL = 0.95
_BEYOND = 1.5


@dataclass(frozen=True)
class FeatureDrift:
    """How one feature of one symbol has moved since the training range."""

    symbol: str
    """Instrument."""
    feature: str
    """Name in the catalog."""
    psi: float
    """Population stability index of the recent bars; NaN where the feature is not known."""
    usual: float
    """95 % quantile of the same over stretches of the training range that are as long."""
    stretches: tuple[float, ...] = ()
    """The same of each of these stretches, oldest first; NaN where the feature is not known."""

    @property
    def verdict(self) -> str:
        """`stable`, `moderate` or `shifted`; `unknown` where the feature is not known.

        What stretches of the training range show themselves is no shift: a month of hours is few
        independent observations, and the thresholds come from large samples.
        """
        if not np.isfinite(self.psi):
            return "unknown"
        if self.psi <= self.usual or self.psi < MODERATE:
            return "stable"
        return "shifted" if self.psi >= SHIFTED else "moderate"


def psi(expected_T: Floats, actual_T: Floats, *, bins: int = _BINS) -> float:
    """Return the population stability index of two samples.

    sum((a - e) ln(a / e)) over bins that hold equal shares of the expected sample, with e and a
    the shares of the two samples in a bin, half an observation added to each so that an empty bin
    has a logarithm. It is 0 for equal shares and grows without bound; of two samples of one
    distribution it is about (bins - 1) (1 / n + 1 / m). (Lewis 1994, An Introduction to Credit
    Scoring; Yurdakul and Naranjo 2020, Statistical properties of the population stability index,
    Journal of Risk Model Validation 14(4).)

    Parameters
    ----------
    expected_T, actual_T : array
        What is not finite is left out. Equal edges, of a feature that is often one value, are
        one edge.
    bins : int
        At least 2.

    Returns
    -------
    float
        0 or more; NaN where either sample is empty.

    Raises
    ------
    InvalidInput
        If there are fewer than 2 bins.

    Examples
    --------
    >>> round(psi(np.array([1.0, 1.0, 2.0, 2.0]), np.array([1.0, 2.0, 2.0, 2.0]), bins=2), 4)
    0.1695
    """
    if bins < 2:
        raise InvalidInput(f"bins={bins}: expected at least 2")
    samples = [values_T[np.isfinite(values_T)] for values_T in (expected_T, actual_T)]
    if not all(len(sample) for sample in samples):
        return float("nan")
    edges = np.unique(np.quantile(samples[0], np.linspace(0, 1, bins + 1)[1:-1]))
    counts = [
        np.bincount(np.searchsorted(edges, sample, side="right"), minlength=len(edges) + 1) + 0.5
        for sample in samples
    ]
    expected, actual = (count / count.sum() for count in counts)
    return float(((actual - expected) * np.log(actual / expected)).sum())


def feature_drift(
    frame: WindowFrame, provenance: Provenance, *, recent: int = RECENT_BARS
) -> tuple[FeatureDrift, ...]:
    """Compare every feature of the newest bars with the training range of a model.

    Parameters
    ----------
    frame : WindowFrame
        The windows at hand; they must reach back into the training range.
    provenance : Provenance
        Of the model.
    recent : int
        Newest bars compared, at least 100; fewer where fewer follow the training range.

    Returns
    -------
    tuple of FeatureDrift
        One per symbol and feature, in the order of the frame.

    Raises
    ------
    NotEnoughHistory
        If fewer than 100 bars follow the training range, or the frame holds less of that than of
        the recent bars.
    """
    start_T = frame.start_time_T
    x_TSF = frame.along_time(frame.x_BKSF)
    train_T = (start_T >= provenance.train_from) & (start_T < provenance.train_until)
    after_TSF, train_TSF = x_TSF[start_T >= provenance.train_until], x_TSF[train_T]
    after_TSF = after_TSF[-recent:]
    if len(after_TSF) < _LEAST_BARS or len(train_TSF) < len(after_TSF):
        raise NotEnoughHistory(
            f"{len(after_TSF)} bars follow the training range to {iso_utc(provenance.train_until)} "
            f"and {len(train_TSF)} of it are at hand: expected {_LEAST_BARS} or more, and no fewer "
            "of the training range"
        )
    return tuple(
        _drift(symbol, feature, train_TSF[:, s, f], after_TSF[:, s, f])
        for s, symbol in enumerate(frame.symbols)
        for f, feature in enumerate(frame.features)
    )


def drift_warnings(drifts: Sequence[FeatureDrift]) -> list[str]:
    """Say what a person should look at, one sentence each; empty where there is nothing.

    The inputs as a whole have moved where the mean index of all features is at least 0.25 and half
    as large again as in any stretch of the training range. Single features do not count by that:
    among twenty-five, some are beyond their usual range in four weeks of five on real candles,
    volatility above all, while the mean is in one of five. A feature with an index of 5 counts by
    itself: no real market has shown that, a broken column does.
    """
    known = [each for each in drifts if np.isfinite(each.psi)]
    broken = [each for each in known if each.psi >= BROKEN]
    warnings = [
        f"{each.feature} of {each.symbol} has a stability index of {each.psi:.2f}: expected below "
        f"{BROKEN:g}, is the column broken?"
        for each in broken
    ]
    if not known:
        return warnings
    mean = float(np.mean([each.psi for each in known]))
    usual = max(_means([each.stretches for each in known]), default=0.0)
    if mean >= SHIFTED and mean > _BEYOND * usual:
        worst = sorted(known, key=lambda each: -each.psi)[:3]
        names = ", ".join(f"{each.feature} of {each.symbol} {each.psi:.2f}" for each in worst)
        warnings.append(
            f"the mean stability index of {len(known)} features is {mean:.2f}, at most "
            f"{usual:.2f} in the training range: most in {names}"
        )
    return warnings


def _means(stretches: Sequence[Sequence[float]]) -> list[float]:
    """Return the mean over the features of each stretch; those that no feature knows left out."""
    by_stretch = [[v for v in each if np.isfinite(v)] for each in zip(*stretches, strict=True)]
    return [float(np.mean(each)) for each in by_stretch if each]


def _drift(symbol: str, feature: str, train_T: Floats, recent_T: Floats) -> FeatureDrift:
    length = len(recent_T)
    stretches = tuple(
        psi(train_T, train_T[start : start + length])
        for start in range(0, len(train_T) - length + 1, length)
    )
    known = [value for value in stretches if np.isfinite(value)]
    usual = float(np.quantile(known, _USUAL)) if known else 0.0
    return FeatureDrift(symbol, feature, psi(train_T, recent_T), usual, stretches)
