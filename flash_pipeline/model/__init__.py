"""The transformer: tensors in, tensors out; it knows nothing of windows, symbols or time.

Only the configuration is exported here, since recipes and definitions need it without loading
torch. The rest is imported from where it lives:

- `model.trader`: `FlashAttentionTrader`
- `model.attention`: `attend` and `choose_backend`, the one seam to the attention kernels
- `model.heads`: what the model predicts, and the loss of each
- `model.analysis`: which bars a prediction looked at
"""

from flash_pipeline.model.config import ModelConfig

__all__ = ["ModelConfig"]
