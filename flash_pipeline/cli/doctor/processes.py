"""Which processes hold a file or a port, where the system has /proc and shows them to us."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from flash_pipeline.settings import redacted

_PROC = Path("/proc")
_LISTENING = "0A"


def describe(pid: int) -> str:
    """Return a process with the command that started it."""
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return f"process {pid}"
    command = " ".join(word.decode(errors="replace") for word in words if word)
    return f"process {pid} ({redacted(command)[:120]})" if command else f"process {pid}"


def has_variable(pid: int, name: str, value: str) -> bool:
    """Say whether a process was started with a variable of that value."""
    with suppress(OSError):
        pairs = (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
        return f"{name}={value}".encode() in pairs
    return False


def holders_of(path: Path) -> tuple[int, ...]:
    """Return the processes that have a file open, the oldest number first."""
    target = str(path.resolve())
    return tuple(sorted({pid for pid, opened in _open_files() if opened == target}))


def listeners_on(port: int) -> tuple[int, ...]:
    """Return the processes that listen on a TCP port of this machine."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    return tuple(sorted({pid for pid, opened in _open_files() if opened in sockets}))


def _open_files() -> Iterator[tuple[int, str]]:
    for folder in _PROC.glob("[0-9]*"):
        with suppress(OSError):  # ended meanwhile, or another user's
            for link in (folder / "fd").iterdir():
                with suppress(OSError):
                    yield int(folder.name), str(link.readlink())


def _listening_inodes(port: int) -> Iterator[str]:
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (_PROC / "net" / name).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and re.fullmatch(rf".*:{port:04X}", fields[1]):
                    yield fields[9]
