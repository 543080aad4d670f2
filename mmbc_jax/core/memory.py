"""How much memory the machine has left."""

from __future__ import annotations


def free_bytes() -> int:
    """Memory of the machine that is free for new arrays; 0 where nobody says."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            fields = dict(line.split(":", 1) for line in lines)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 0
