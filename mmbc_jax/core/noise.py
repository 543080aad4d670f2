"""What libraries print of themselves on stdout while they are imported, left out by its wording."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator

_WITHOUT_WARP = ("Failed to import warp:", "Failed to import mujoco_warp:")


@contextlib.contextmanager
def without_warp() -> Iterator[None]:
    """Prints what is printed inside, but for what MuJoCo XLA says where its optional backend Warp is missing."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            yield
    finally:
        for line in said.getvalue().splitlines(keepends=True):
            if not line.startswith(_WITHOUT_WARP):
                sys.stdout.write(line)
