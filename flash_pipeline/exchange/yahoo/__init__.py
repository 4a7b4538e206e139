"""Yahoo Finance's chart endpoint, from the same market as the exchange and from simulated stocks.

/v8/finance/chart/BTC-USD?interval=1h&period1=...&period2=...

query.py  --->  bars.py (sessions.py, tickers.py)  --->  chart.py
"""

from flash_pipeline.exchange.yahoo.chart import YahooChart

__all__ = ["YahooChart"]
