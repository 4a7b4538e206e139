"""A seeded market: synthetic prices with the stylised facts of crypto perpetuals."""

from flash_pipeline.exchange.simulation.market import SimulatedMarket

__all__ = ["SimulatedMarket"]
