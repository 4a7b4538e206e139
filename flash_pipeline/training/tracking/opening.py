"""Opens a registered model without a word of its `MLmodel` file deciding what code runs.

`mlflow.pyfunc.load_model` imports the loader that the file names, and the code that may lie beside
it. Here the file is read as data: it must name a loader of this package and no code, and the loader
is then called by this package itself.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from yaml import YAMLError  # type: ignore[import-untyped]

from flash_pipeline.errors import BundleMismatch
from flash_pipeline.training.baselines import load_baseline
from flash_pipeline.training.bundle import ModelBundle
from flash_pipeline.training.tracking.served import (
    ARTIFACTS,
    BASELINE_ARTIFACT,
    BUNDLE_ARTIFACT,
    BaselineForecaster,
    Forecaster,
)

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel

_PACKAGE = "flash_pipeline.training.tracking"

_LOADERS: Mapping[str, tuple[str, Callable[[Path], Any]]] = {
    f"{_PACKAGE}.served_model": (
        f"{ARTIFACTS}/{BUNDLE_ARTIFACT}",
        lambda folder: Forecaster(ModelBundle.load(folder)),
    ),
    f"{_PACKAGE}.served_baseline": (
        f"{ARTIFACTS}/{BASELINE_ARTIFACT}",
        lambda folder: BaselineForecaster(load_baseline(folder)),
    ),
}
"""By the loader that an `MLmodel` file may name: where its files lie, and how they are opened."""

_GONE = {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"}


def open_model(uri: str) -> "PyFuncModel":
    """Return what `mlflow.pyfunc.load_model` would, for models of this package and no other.

    Neither pickle nor code from the store is run, whoever wrote there.

    Parameters
    ----------
    uri : str
        Address, as `models:/flash-attention-trader@champion`, at MLflow's tracking URI.

    Raises
    ------
    BundleMismatch
        If the files are gone or cannot be read, or the model is another program's, or was stored
        as code by an older version of this package.
    """
    from mlflow.pyfunc import PyFuncModel

    folder = stored_folder(uri)
    try:
        model = Model.load(str(folder / "MLmodel"))
    except (MlflowException, OSError, ValueError, TypeError, YAMLError) as error:
        raise BundleMismatch(f"{uri} has no MLmodel file that can be read: {error}") from error
    described = model.flavors.get("python_function") or {}
    loader = str(described.get("loader_module"))
    if loader not in _LOADERS:
        raise BundleMismatch(
            f"{uri} names the loader {loader!r}: expected one of {', '.join(_LOADERS)}"
        )
    if described.get("code"):
        raise BundleMismatch(f"{uri} brings code of its own, in {described['code']!r}: not opened")
    place, opened = _LOADERS[loader]
    return PyFuncModel(model_meta=model, model_impl=opened(folder / place), model_id=model.model_id)


def stored_folder(uri: str) -> Path:
    """Return the folder of a stored model, brought here where it is not.

    Raises
    ------
    BundleMismatch
        If its files are gone. A store that does not answer raises its own error.
    """
    try:
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri))
    except (MlflowException, FileNotFoundError) as error:
        if isinstance(error, MlflowException) and error.error_code not in _GONE:
            raise
        raise BundleMismatch(f"the files of {uri} are gone: {error}") from error
