"""What a stored model asks an environment of its own to install."""

from pathlib import Path

import mlflow
from packaging.requirements import Requirement


def test_it_pins_what_the_public_index_has_and_leaves_this_package_out(tracked, tracked_model):
    folder = mlflow.artifacts.download_artifacts(artifact_uri=tracked_model.uri)
    asked = [
        Requirement(line) for line in (Path(folder) / "requirements.txt").read_text().splitlines()
    ]
    assert {"mlflow", "torch", "safetensors"} <= {each.name for each in asked}
    assert not {each.name for each in asked} & {"flash-pipeline", "flash_pipeline"}
    assert all(str(each.specifier).startswith("==") for each in asked)
    assert not any("+" in str(each.specifier) for each in asked)
