"""Why a run failed, in the words of the error that says it."""

import re

import dagster as dg

from flash_pipeline import errors

_BROKEN_BOUND = re.compile(
    r"^(\S+)\n  (.+) \[type=\w+, input_value=(.*), input_type=\w+\]$", re.MULTILINE
)
"""One finding of pydantic's: the setting, what was expected, and the value."""


def failure_reason(result: dg.ExecuteInProcessResult) -> str:
    """Return one line on the first failure of a run.

    Dagster wraps a step's error, and our errors keep the library's below them: the outermost one
    of our own tree is what a person should read.
    """
    for check in result.get_asset_check_evaluations():
        if not check.passed and check.blocking:
            return f"check {check.check_name} failed: {check.description}"
    for event in result.all_events:
        if event.is_step_failure:
            return f"{event.step_key} failed: {_message(event.step_failure_data.error)}"
    for event in result.all_events:
        if event.is_run_failure and event.job_failure_data.error is not None:
            return _message(event.job_failure_data.error)
    return f"run {result.run_id} failed"


def _message(error: object) -> str:
    chain = []
    while error is not None:
        chain.append(error)
        error = getattr(error, "cause", None)
    ours = [link for link in chain if hasattr(errors, getattr(link, "cls_name", "") or "")]
    text = str(getattr((ours or chain[-1:])[0], "message", "")).strip()
    bounds = _BROKEN_BOUND.findall(text)
    if bounds:
        return "; ".join(f"{name} is {value}: {words.lower()}" for name, words, value in bounds)
    return text.partition(": ")[2] or text
