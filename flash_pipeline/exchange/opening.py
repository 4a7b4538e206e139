"""Which market is served: a recording, or a simulated one of a seed and a size."""

from pathlib import Path

from flash_pipeline.exchange.replay import ReplayedMarket
from flash_pipeline.exchange.simulation import SimulatedMarket
from flash_pipeline.exchange.simulation.generated import listings
from flash_pipeline.exchange.simulation.listings import LISTINGS
from flash_pipeline.exchange.simulation.market import DEFAULT_SEED
from flash_pipeline.exchange.source import Market


def open_market(
    replay: Path | None = None, seed: int | None = None, instruments: int | None = None
) -> Market:
    """Return a market.

    Parameters
    ----------
    replay : Path or None
        Folder of recorded candles; the other two are without effect then.
    seed : int or None
        Of the simulated market, 0 or more.
    instruments : int or None
        That it lists, 16 to 600; None for the fewest.

    Raises
    ------
    FlashPipelineError
        If the folder holds no recording, or a number is out of its range.
    """
    if replay is not None:
        return ReplayedMarket(replay)
    seed = DEFAULT_SEED if seed is None else seed
    return SimulatedMarket(
        seed, listings(seed, len(LISTINGS) if instruments is None else instruments)
    )
