"""How much room there is for files, and how much of it files take."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def room_bytes(path: str | os.PathLike[str]) -> int:
    """Bytes that are free where a path is, or would be made; 0 where nobody says."""
    place = Path(path).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return 0


def folder_bytes(path: str | os.PathLike[str]) -> int:
    """Bytes of all files under a folder; 0 where there is none. What goes while it is counted is left out."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                continue
    return total
