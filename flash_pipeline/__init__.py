"""Raw Bybit candles to hourly forecasts by a FlashAttention transformer.

The package is a library that a notebook uses without Dagster; `flash_pipeline.definitions` is
what Dagster loads, `python -m flash_pipeline` is the command line.
"""

__version__ = "0.2.0"
