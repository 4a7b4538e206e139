"""How long a group of long sequences takes, from nothing: `python -m benchmarks.long_sequences`.

Materializes the group `order_book` or `portfolio` in the demo recipe, in a fresh home beside the
embedded exchange, and prints the seconds of the whole run and of each of its assets.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

GROUPS = ("order_book", "portfolio")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a group and print what it took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--group", choices=GROUPS, required=True)
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--home", type=Path, help="folder to keep; a temporary one by default")
    parser.add_argument("--json", type=Path, help="file to write the seconds to")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="long-sequences-") as folder:
        os.environ["FLASH_PIPELINE_HOME"] = str(options.home or folder)
        os.environ["FLASH_PIPELINE_RECIPE"] = options.recipe
        for name in ("FLASH_PIPELINE_BYBIT_URL", "MLFLOW_TRACKING_URI"):
            os.environ.pop(name, None)
        began = time.monotonic()
        seconds, success = _materialize(options.group)
        whole = {"group": options.group, "recipe": options.recipe, "success": success}
        whole |= {"seconds": round(time.monotonic() - began, 1), "assets": seconds}
    print(json.dumps(whole, indent=2))
    if options.json is not None:
        options.json.write_text(json.dumps(whole, indent=2) + "\n")
    return 0 if success else 1


def _materialize(group: str) -> tuple[dict[str, float], bool]:
    import dagster as dg

    from flash_pipeline.definitions import defs

    with dg.DagsterInstance.ephemeral() as instance:
        result = defs.resolve_job_def(group).execute_in_process(
            instance=instance, raise_on_error=False
        )
    seconds = {}
    for event in result.all_events:
        if event.event_type == dg.DagsterEventType.STEP_SUCCESS:
            seconds[event.step_key] = round(event.step_success_data.duration_ms / 1000, 1)
    return seconds, result.success


if __name__ == "__main__":
    raise SystemExit(main())
