"""The signal that the order flow leans by: see `Lean`."""

import numpy as np
import numpy.typing as npt

from flash_pipeline.exchange.simulation.chunks import Floats, random_stream
from flash_pipeline.exchange.simulation.flow_model import Lean
from flash_pipeline.exchange.simulation.price_path import HOUR_STEPS, STEP_MS, PricePath

_STEPS_PER_S = 1000 // STEP_MS


class Signal:
    """The processes z of the near and of the deep orders, pure functions of the time.

    Parameters
    ----------
    seed : int
        Seed of the market.
    symbol : str
        Owner of the noise.
    path : PricePath
        What z knows of.
    lean : Lean
        How.
    """

    def __init__(self, seed: int, symbol: str, path: PricePath, lean: Lean) -> None:
        self._seed = seed
        self._symbol = symbol
        self._path = path
        self._lean = lean

    def between(self, first: int, last: int) -> tuple[Floats, Floats]:
        """Return z of the near and of the deep orders at the steps `first` to `last` - 1.

        Returns
        -------
        near, deep : array [steps]
            Standard normal each.
        """
        lag = round(self._lean.lag_s * _STEPS_PER_S)
        z, open_ = self._near(first, last + lag)
        deep = np.where(open_, z, -z)[lag:]
        return z[: last - first], deep

    def _near(self, first: int, last: int) -> tuple[Floats, npt.NDArray[np.bool_]]:
        lean = self._lean
        lead = max(1, round(lean.lead_s * _STEPS_PER_S))
        price, deviation = self._path.between(first, last + lead)
        steps = np.diff(price) / deviation[:-1]  # standard normal each, whatever the hour
        noise = self._noise(first, last + lead - 1)
        share = lean.information
        informed = share * steps + np.sqrt(1 - share**2) * noise[0]
        open_ = self._gate(first, last)
        z = np.where(open_, _moving_sum(informed, lead), _moving_sum(noise[1], lead))
        return z / np.sqrt(lead), open_

    def _noise(self, first: int, last: int) -> Floats:
        """Return two rows of standard normal noise at the steps `first` to `last` - 1."""
        hours = range(first // HOUR_STEPS, (last - 1) // HOUR_STEPS + 1)
        parts = [
            random_stream(self._seed, self._symbol, "lean", hour).standard_normal((2, HOUR_STEPS))
            for hour in hours
        ]
        offset = first - hours[0] * HOUR_STEPS
        return np.concatenate(parts, axis=1)[:, offset : offset + last - first]

    def _gate(self, first: int, last: int) -> npt.NDArray[np.bool_]:
        width = max(1, round(self._lean.gate_s * _STEPS_PER_S))
        numbers = np.arange(first, last) // width
        slots = np.arange(numbers[0], numbers[-1] + 1)
        drawn = [random_stream(self._seed, self._symbol, "gate", int(n)).random() for n in slots]
        return np.asarray((np.array(drawn) < 0.5)[numbers - numbers[0]])


def _moving_sum(values: Floats, width: int) -> Floats:
    """Return the sum of each value and the next `width` - 1, [values - width + 1]."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray(total[width:] - total[:-width])
