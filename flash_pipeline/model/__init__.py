"""The transformer: tensors in, tensors out; it knows nothing of windows, symbols or time.

Only the configuration is exported here, since recipes and definitions need it without loading
torch. The rest is imported from where it lives:

- `model.trader`: `FlashAttentionTrader`
- `model.attention`: `attend` and `choose_backend`, the one seam to the attention kernels
- `model.heads`: what the model predicts, and the loss of each
- `model.analysis`: which bars a prediction looked at
- `model.order_book`, `model.portfolio`: one token per level or asset and moment, and
  `model.grid_analysis`: at which levels, assets and lags a prediction looked
- `model.imbalance`: what an order-book model must beat
- `model.export`: the price model for calls of one window
"""

from flash_pipeline.model.config import ModelConfig

__all__ = ["ModelConfig"]
