"""One process at a time in a work directory.

The lock is a file that names its holder and that a thread keeps fresh, so that it works where several machines see
the directory. A holder of this machine that has died is known by its process, one of another machine by a mark that
stays as it is for `_LEASE` seconds of our own clock: clocks that differ or jump do not matter.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import SoftFileLease, Timeout

from mmbc_jax.core.errors import WorkdirError

LOCK = ".lock"
_LEASE = 30.0
_PATIENCE = 1.5  # leases that a holder on another machine is watched for


class WorkdirLock:
    """The lock of one work directory; entered again by the process that holds it, it does nothing.

    Args:
      workdir: an existing folder when it is entered.
    """

    def __init__(self, workdir: Path):
        self.workdir = Path(workdir)
        self._lease: SoftFileLease | None = None

    @property
    def path(self) -> Path:
        """Of the file."""
        return self.workdir / LOCK

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the lock inside the context.

        Raises:
          WorkdirError: another process holds it; the message names the machine and the process.
        """
        if self._lease is not None:
            yield
            return
        self._lease = self._acquire()
        try:
            yield
        finally:
            lease, self._lease = self._lease, None
            lease.release()

    def check(self) -> None:
        """Raises WorkdirError where the lock that this process held was taken over, after it stood still too long."""
        if self._lease is not None and self._lease.compromise is not None:
            raise WorkdirError(
                f"{self.workdir} was taken over by {_holder(self.path)}, since this process gave no sign for "
                f"{_LEASE:.0f} s; it stops here, and the other one continues the run"
            )

    def _acquire(self) -> SoftFileLease:
        # not thread-local: the report of a run is written under the lock that another thread may look at
        lease = SoftFileLease(self.path, lease_duration=_LEASE, thread_local=False)
        for timeout in (0.0, _PATIENCE * _LEASE):
            try:
                lease.acquire(timeout=timeout)
                return lease
            except Timeout:
                host = _read(self.path)[1]
                if host in ("", socket.gethostname()):
                    break
        raise WorkdirError(
            f"{self.workdir} is in use by {_holder(self.path)}; wait for it, or give another --workdir"
        )


def _read(path: Path) -> tuple[str, str]:
    """(process, machine) that a lock file names; empty where it cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "", ""
    fields = dict(line.partition("=")[::2] for line in lines)
    return fields.get("pid", ""), fields.get("host", "")


def _holder(path: Path) -> str:
    process, host = _read(path)
    return f"process {process} on {host}" if process else "another process"
