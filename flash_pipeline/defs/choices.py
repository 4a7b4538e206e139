"""What the launchpad offers where one of a few words is meant; it refuses any other as one types.

A member's name is its value: Dagster takes the names of a configuration, Python its values.
"""

from enum import StrEnum

RecipeChoice = StrEnum(
    "RecipeChoice",
    {"auto": "auto", "demo": "demo", "seed": "seed", "full": "full", "low-latency": "low-latency"},
)
"""`auto`, and the names of `training.recipes.RECIPES`."""


class HeadChoice(StrEnum):
    """What `model.config.HeadName` holds."""

    regression = "regression"
    direction = "direction"
    allocation = "allocation"
    quantile = "quantile"


class AttentionChoice(StrEnum):
    """What `model.config.AttentionName` holds."""

    auto = "auto"
    flash_attn = "flash_attn"
    flash_attn_4 = "flash_attn_4"
    sdpa = "sdpa"
    sdpa_cudnn = "sdpa_cudnn"
    sdpa_flash = "sdpa_flash"
    sdpa_efficient = "sdpa_efficient"
    flex = "flex"
    tiled = "tiled"
    reference = "reference"


IntervalChoice = StrEnum(
    "IntervalChoice",
    {
        "1": "1",
        "3": "3",
        "5": "5",
        "15": "15",
        "30": "30",
        "60": "60",
        "120": "120",
        "240": "240",
        "360": "360",
        "720": "720",
        "D": "D",
    },
)
"""The codes of `market.Interval`; in YAML a number stands in quotes."""


class GpuTroubleChoice(StrEnum):
    """What `settings.GPU_TROUBLE_CHOICES` holds."""

    fail = "fail"
    cpu = "cpu"
    skip = "skip"


class GrowthChoice(StrEnum):
    """What `windows.folds.Growth` holds."""

    expanding = "expanding"
    rolling = "rolling"
