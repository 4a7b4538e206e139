import inspect
import re

import pytest

from flash_pipeline import errors

BRANCH = re.compile(r"^ {4}(?P<indent>[│├└─ ]*)(?P<name>[A-Z]\w+)(?P<meaning>.*)$")
INDENT = 4


def _drawn_parents() -> dict[str, str]:
    """Return the parent of every class drawn at the top of the module; the root has none."""
    parents, path = {}, []
    for line in errors.__doc__.splitlines():
        branch = BRANCH.match(line)
        if branch is None:
            continue
        depth = len(branch["indent"]) // INDENT
        path[depth:] = [branch["name"]]
        parents[branch["name"]] = path[depth - 1] if depth else ""
    return parents


def _defined() -> dict[str, type[Exception]]:
    members = inspect.getmembers(errors, inspect.isclass)
    return {name: each for name, each in members if each.__module__ == errors.__name__}


DRAWN, DEFINED = _drawn_parents(), _defined()


def test_every_class_is_drawn_and_every_drawn_class_exists():
    assert set(DRAWN) == set(DEFINED)


@pytest.mark.parametrize("name", sorted(set(DEFINED) - {"FlashPipelineError"}))
def test_the_parent_of_a_class_is_the_drawn_one(name):
    assert DEFINED[name].__bases__[0].__name__ == DRAWN[name]


def test_the_root_is_drawn_first_and_catches_all():
    assert next(iter(DRAWN)) == "FlashPipelineError"
    assert all(issubclass(each, errors.FlashPipelineError) for each in DEFINED.values())


@pytest.mark.parametrize("name", sorted(DEFINED))
def test_only_invalid_input_is_a_value_error(name):
    assert issubclass(DEFINED[name], ValueError) == issubclass(DEFINED[name], errors.InvalidInput)


@pytest.mark.parametrize("name", sorted(DEFINED))
def test_a_class_says_what_went_wrong(name):
    assert DEFINED[name].__doc__.strip()


def test_transient_and_terminal_are_separate_branches():
    transient, terminal = errors.TransientExchangeError, errors.TerminalExchangeError
    assert not any(
        issubclass(each, transient) and issubclass(each, terminal) for each in DEFINED.values()
    )


def test_an_error_of_the_exchange_carries_symbol_status_and_code():
    error = errors.UnknownSymbol("no such", symbol="NOPEUSDT", status=200, code=10001)
    assert (str(error), error.symbol, error.status, error.code) == (
        "no such",
        "NOPEUSDT",
        200,
        10001,
    )


def test_an_error_of_the_exchange_knows_nothing_by_default():
    error = errors.ExchangeUnreachable("no answer")
    assert (error.symbol, error.status, error.code) == (None, None, None)
