"""What the launchpad offers and refuses, and what a run refuses before its first step."""

from enum import StrEnum
from typing import get_args

import dagster as dg
import pytest

from flash_pipeline.definitions import defs
from flash_pipeline.defs import choices
from flash_pipeline.defs.jobs import JOB_NAME
from flash_pipeline.defs.resources import PipelineResource
from flash_pipeline.errors import InvalidConfig
from flash_pipeline.market import Interval
from flash_pipeline.model.config import AttentionName, HeadName
from flash_pipeline.settings import GPU_TROUBLE_CHOICES
from flash_pipeline.training.recipes import RECIPES, get_recipe
from flash_pipeline.windows.folds import Growth

OFFERED = {
    choices.RecipeChoice: ["auto", *RECIPES],
    choices.HeadChoice: get_args(HeadName),
    choices.AttentionChoice: get_args(AttentionName),
    choices.IntervalChoice: [each.value for each in Interval],
    choices.GpuTroubleChoice: GPU_TROUBLE_CHOICES,
    choices.GrowthChoice: get_args(Growth),
}
CHOSEN = {"recipe": "demo", "interval": "60", "head": "quantile", "attention": "sdpa"}


@pytest.mark.parametrize("choice", OFFERED)
def test_it_offers_what_the_library_takes_by_the_same_names(choice):
    assert [each.value for each in choice] == [each.name for each in choice]
    assert {each.value for each in choice} == set(OFFERED[choice])


def test_every_choice_is_compared_here():
    written = {each for each in vars(choices).values() if isinstance(each, type)} - {StrEnum}
    assert written == set(OFFERED)


def test_a_choice_of_the_launchpad_reaches_the_recipe_as_plain_words():
    resolved = PipelineResource(**CHOSEN).resolve()
    assert (resolved.data.interval, resolved.model.head) == ("60", "quantile")
    assert {type(resolved.data.interval), type(resolved.model.attention)} == {str}
    assert PipelineResource().resolve() == get_recipe("demo")


def test_what_is_given_comes_back_as_a_configuration():
    assert PipelineResource(**CHOSEN, symbols=["BTCUSDT"]).given() == {
        **CHOSEN,
        "symbols": ["BTCUSDT"],
    }


def validated(ops=None, job=JOB_NAME, **pipeline):
    return dg.validate_run_config(
        defs.resolve_job_def(job),
        {
            "resources": {"pipeline": {"config": pipeline}},
            "ops": {name: {"config": config} for name, config in (ops or {}).items()},
        },
    )


def test_what_was_chosen_by_its_words_before_still_is():
    config = validated(**CHOSEN)["resources"]["pipeline"]["config"]
    assert CHOSEN.items() <= config.items()


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"recipe": "best"}, "recipe not in enum type RecipeChoice got best"),
        ({"interval": "61"}, "interval not in enum type IntervalChoice got 61"),
        ({"interval": "W"}, "interval not in enum type IntervalChoice got W"),
        ({"interval": 60}, "interval for enum type IntervalChoice must be a string"),
        ({"head": "oracle"}, "head not in enum type HeadChoice got oracle"),
        ({"attention": "magic"}, "attention not in enum type AttentionChoice got magic"),
        ({"lookback": "long"}, 'lookback. Value "long"'),
        ({"symbols": "BTCUSDT"}, "symbols must be list"),
        ({"recipes": "demo"}, 'unexpected config entry "recipes"'),
        (
            {"ops": {"trained_model": {"on_gpu_trouble": "wait"}}},
            "on_gpu_trouble not in enum type GpuTroubleChoice got wait",
        ),
        (
            {"ops": {"walk_forward_plan": {"growth": "shrinking"}}, "job": "evaluate"},
            "growth not in enum type GrowthChoice got shrinking",
        ),
    ],
)
def test_the_editor_refuses(given, path):
    with pytest.raises(dg.DagsterInvalidConfigError, match=path):
        validated(**given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"symbols": ["../x"]}, "symbol '../x' is malformed: expected 2 to 20 of A-Z and 0-9"),
        ({"symbols": []}, "no symbol given: expected at least one"),
        ({"symbols": ["BTCUSDT"] * 2}, "symbol 'BTCUSDT' is given more than once"),
        ({"start_month": "2024-13"}, "month '2024-13' is malformed: expected YYYY-MM"),
        ({"end_month": "June"}, "month 'June' is malformed: expected YYYY-MM"),
        ({"lookback": 0}, "lookback is 0: input should be greater than or equal to 1"),
        ({"recipe": "best"}, "recipe is 'best': input should be 'auto', 'demo', 'seed', 'full' or"),
    ],
)
def test_a_value_that_cannot_be_is_told_in_one_line(given, words):
    with pytest.raises(InvalidConfig) as told:
        PipelineResource.checked(**given)
    assert str(told.value).startswith(words)
    assert "\n" not in str(told.value)
