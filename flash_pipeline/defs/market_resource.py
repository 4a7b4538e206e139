"""What the assets of the whole market are given: the portfolio's recipe of a run."""

import dataclasses
from typing import Any

import dagster as dg
from pydantic import Field

from flash_pipeline.settings import Settings
from flash_pipeline.training.portfolio_recipes import PortfolioRecipe, get_portfolio_recipe


class MarketResource(dg.ConfigurableResource):
    """The portfolio's recipe, its defaults overridden where a field is given."""

    recipe: str | None = Field(
        default=None,
        description="auto, demo or full; by default what FLASH_PIPELINE_RECIPE says.",
    )
    n_assets: int | None = Field(
        default=None, ge=1, description="Members of the market at a time, at least 1."
    )
    instruments: int | None = Field(
        default=None, ge=16, le=600, description="Instruments of the embedded exchange, 16 to 600."
    )
    months: int | None = Field(
        default=None,
        ge=1,
        description="Calendar months of the panel, the newest included, at least 1.",
    )
    lookback: int | None = Field(default=None, ge=1, description="Hours of a window, at least 1.")
    horizon: int | None = Field(
        default=None, ge=1, description="Hours between two decisions, at least 1."
    )
    steps: int | None = Field(default=None, ge=1, description="Steps of each training, at least 1.")
    seeds: int | None = Field(
        default=None, ge=1, description="Trainings of each fold and variant, at least 1."
    )
    folds: int | None = Field(
        default=None, ge=1, description="Folds of the walk-forward, at least 1."
    )
    objective: str | None = Field(
        default=None, description="What is maximised, net of costs: sharpe or mean_variance."
    )
    asset_cap: float | None = Field(
        default=None,
        gt=0,
        description="Largest weight of an asset, a fraction of the equity, above 0.",
    )
    gross_cap: float | None = Field(
        default=None, gt=0, description="Largest sum of the sizes of the weights, above 0."
    )

    def resolve(self) -> PortfolioRecipe:
        """Return the recipe with this run's overrides, checked.

        Raises
        ------
        InvalidInput
            Naming the first value that cannot be used.
        """
        recipe = get_portfolio_recipe(self.recipe or Settings.from_environment().recipe)
        options = _given(objective=self.objective, gross_cap=self.gross_cap)
        head = dataclasses.replace(recipe.model.head_options, **options)
        sizes = _given(lookback=self.lookback, asset_cap=self.asset_cap)
        train = _given(steps=self.steps, seeds=self.seeds)
        return dataclasses.replace(
            recipe,
            universe=dataclasses.replace(recipe.universe, **_given(n_assets=self.n_assets)),
            model=dataclasses.replace(recipe.model, head_options=head, **sizes),
            train=dataclasses.replace(recipe.train, **train),
            walk=dataclasses.replace(recipe.walk, **_given(folds=self.folds)),
            **_given(instruments=self.instruments, months=self.months, horizon=self.horizon),
        )


def _given(**values: Any) -> dict[str, Any]:  # noqa: ANN401  (fields of several configurations)
    return {name: value for name, value in values.items() if value is not None}
