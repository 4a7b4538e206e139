"""The assets, from raw candles to forecasts."""
