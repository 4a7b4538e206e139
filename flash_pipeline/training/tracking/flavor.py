"""How a model of this package lies in MLflow: a flavor of its own, without code and pickle.

    MLmodel                 the package's loader, signature, what the model takes
    artifacts/<name>/       the model's own files
    requirements.txt        what to install, pinned
    input_example.json      an input that it takes, where there is one

`mlflow.pyfunc.log_model` writes much the same. It first lists every file of every installed
package, to warn of requirements that are not met: two seconds of each process that trains. Ours
are read from what is installed, so they are met.

This package itself is not among them: it is on no index, and whoever took its name there would be
installed and run by MLflow's default environments. It is installed by hand from its source.
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from mlflow.models import Model, ModelSignature
from mlflow.models.utils import _save_example

from flash_pipeline.training.tracking.served import ARTIFACTS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow warns of its own type hints when it is imported
    from mlflow.pyfunc import add_to_model

_PINNED = ("mlflow", "numpy", "safetensors", "torch")
_REQUIREMENTS = "requirements.txt"
_ENVIRONMENT = "python_env.yaml"


def save_model(
    path: str,
    mlflow_model: Model,
    *,
    save: Callable[[Path], None],
    artifact: str,
    loader: str,
    model_signature: ModelSignature,
    packages: Sequence[str] = (),
    example: Any = None,  # noqa: ANN401  (MLflow's own, untyped)
    validate_serving_input: bool = False,  # noqa: ARG001  (read by MLflow, beside this function)
) -> None:
    """Write a model in MLflow's layout; called by `Model.log`.

    Parameters
    ----------
    path : str
        Folder to make.
    save : callable
        Writes the model's own files into a folder.
    artifact : str
        Name of that folder.
    loader : str
        Module whose `_load_pyfunc` opens it.
    packages : sequence of str
        Further packages that it needs.
    example : DataFrame or tuple of it and parameters, or None
        An input that it takes.
    """
    folder = Path(path)
    own = folder / ARTIFACTS / artifact
    own.mkdir(parents=True)
    save(own)
    pinned = [f"{name}=={_public(package_version(name))}" for name in (*_PINNED, *packages)]
    (folder / _REQUIREMENTS).write_text("".join(f"{line}\n" for line in pinned))
    python = ".".join(map(str, sys.version_info[:3]))
    (folder / _ENVIRONMENT).write_text(
        f"python: {python}\nbuild_dependencies: []\ndependencies:\n- -r {_REQUIREMENTS}\n"
    )
    mlflow_model.signature = model_signature
    if example is not None:
        _save_example(mlflow_model, example, path)
    describe: Any = add_to_model  # untyped
    describe(
        mlflow_model,
        loader_module=loader,
        data=f"{ARTIFACTS}/{artifact}",
        python_env=_ENVIRONMENT,
    )
    mlflow_model.save(str(folder / "MLmodel"))


def _public(version: str) -> str:
    """Return a version without its local part, as `+cpu`, which the public index has not."""
    return version.partition("+")[0]
