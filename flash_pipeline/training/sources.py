"""What code a training is made by. Free of torch, as the recipes are that ask for it."""

import functools
import hashlib
from pathlib import Path

PACKAGES = ("features", "windows", "model", "training")
"""Parts of this package that decide what a training gives."""

_PACKAGE = Path(__file__).resolve().parents[1]


@functools.cache
def code_hash(package: Path = _PACKAGE, parts: tuple[str, ...] = PACKAGES) -> str:
    """Return a hash over the Python files of the parts, read once per process.

    Parameters
    ----------
    package : Path
        Folder that holds the parts.
    parts : tuple of str
        Their names.

    Returns
    -------
    str
        16 hexadecimal digits. Any change of a file changes it, one of a comment too: a training
        done once too often is better than one that is wrongly taken for done.
    """
    digest = hashlib.sha256()
    for part in parts:
        for path in sorted((package / part).rglob("*.py")):
            name, content = path.relative_to(package).as_posix(), path.read_bytes()
            digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]
