"""Runs the notebooks, each in a fresh kernel, all in one folder: `python -m notebooks.execute`."""

import argparse
import base64
import io
import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).resolve().parent
"""Where the notebooks lie."""

NOTEBOOKS = tuple(sorted(FOLDER.glob("[0-9][0-9]_*.ipynb")))
"""In the order in which they build on one another."""

_TIMEOUT_S = 300
_WIDEST_PIXELS = 900
_COLOURS = 128
_KEPT_METADATA = ("kernelspec",)


def execute(path: Path, home: Path) -> nbformat.NotebookNode:
    """Run a notebook from top to bottom in a kernel of its own.

    Parameters
    ----------
    path : Path
        The notebook; it is not changed.
    home : Path
        Folder that the kernel is started in; what the notebooks write goes to `home/` in it.

    Returns
    -------
    NotebookNode
        With the outputs of this run, and without anything that differs from run to run on its own.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell fails, with its code and its error.
    """
    book = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as runtime:
        environ = {
            **os.environ,
            "JUPYTER_RUNTIME_DIR": runtime,
            "PYTHONPATH": _python_path(),
            "PYTHONWARNINGS": "ignore:IProgress not found",  # tqdm's advice to install widgets
        }
        client = NotebookClient(
            book,
            timeout=_TIMEOUT_S,
            resources={"metadata": {"path": home}},
            extra_arguments=["--log-level=ERROR"],
        )
        client.execute(env=environ)
    book.metadata = {name: book.metadata[name] for name in _KEPT_METADATA}
    for cell in book.cells:
        cell.metadata = {}
        for output in cell.get("outputs", []):
            output["metadata"] = {}
            if "image/png" in output.get("data", {}):
                output["data"]["image/png"] = _small(output["data"]["image/png"])
    return book


def _small(picture: str) -> str:
    """Return a picture, PNG in base64, no wider than a page and with few colours."""
    with Image.open(io.BytesIO(base64.b64decode(picture))) as opened:
        image = opened.convert("RGB")
    image.thumbnail((_WIDEST_PIXELS, _WIDEST_PIXELS))
    buffer = io.BytesIO()
    image.quantize(_COLOURS).save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _python_path() -> str:
    """Return the path on which a kernel finds the package of this checkout."""
    return os.pathsep.join(filter(None, [str(FOLDER.parent), os.environ.get("PYTHONPATH")]))


def main() -> None:
    """Run all notebooks and write their outputs into them, or into another folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder that is written to")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        for path in NOTEBOOKS:
            print(f"{path.name} ...", flush=True)
            nbformat.write(execute(path, Path(home)), out / path.name)


if __name__ == "__main__":
    main()
