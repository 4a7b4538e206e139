"""The embedded exchange: the Bybit v5 market API over HTTP, from a simulation or a recording.

    market (simulation/, replay.py)  --->  endpoints.py  --->  app.py  --->  server.py
    clock.py  ----------------------------------------------^     faults/, ratelimit.py on request

It serves development, tests and backtests where the real exchange is out of reach or too young.
Its answers say in a header whether their numbers are synthetic.
"""

from flash_pipeline.exchange.app import build_app
from flash_pipeline.exchange.clock import Clock
from flash_pipeline.exchange.faults import Faults, FaultSpec
from flash_pipeline.exchange.opening import open_market
from flash_pipeline.exchange.replay import ReplayedMarket
from flash_pipeline.exchange.server import embedded_exchange
from flash_pipeline.exchange.simulation import SimulatedMarket
from flash_pipeline.exchange.simulation.market import DEFAULT_SEED
from flash_pipeline.exchange.source import Market

__all__ = [
    "DEFAULT_SEED",
    "Clock",
    "FaultSpec",
    "Faults",
    "Market",
    "ReplayedMarket",
    "SimulatedMarket",
    "build_app",
    "embedded_exchange",
    "open_market",
]
