"""How much memory of this machine a process can still take."""

from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUPS = (
    # Limit, use, and what the kernel gives back when memory is short: pages of files, its caches.
    ("memory.max", "memory.current", "memory.stat",
     ("inactive_file", "active_file", "slab_reclaimable")),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat",
     ("total_inactive_file", "total_active_file")),
)  # fmt: skip
"""Files of the second version of control groups, then of the first."""


def available_memory(meminfo: Path = _MEMINFO, cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the bytes that can be taken before the system swaps or kills.

    What Linux calls available, or what is left of the bound of a container, whichever is less.

    Parameters
    ----------
    meminfo, cgroup : Path
        Where Linux tells both.

    Returns
    -------
    int or None
        None where the system does not tell, as other systems do not.
    """
    known = [size for size in (_of_machine(meminfo), _of_container(cgroup)) if size is not None]
    return min(known, default=None)


def _of_machine(meminfo: Path) -> int | None:
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024
    return None


def _of_container(cgroup: Path) -> int | None:
    for limit_name, used_name, stat_name, reclaimable in _CGROUPS:
        try:
            limit = (cgroup / limit_name).read_text().strip()
            used = int((cgroup / used_name).read_text())
            stat = (cgroup / stat_name).read_text().splitlines()
        except (OSError, ValueError):
            continue
        if not limit.isdigit():  # "max": no bound
            return None
        pages = dict(line.split() for line in stat if len(line.split()) == 2)
        given_back = sum(int(pages.get(name, 0)) for name in reclaimable)
        return max(0, int(limit) - used + min(used, given_back))
    return None
