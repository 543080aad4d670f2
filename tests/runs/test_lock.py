from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from mmbc_jax.core.errors import WorkdirError
from mmbc_jax.runs import lock as lock_lib
from mmbc_jax.runs.lock import LOCK, WorkdirLock

HOLDER = """
import sys, time
from pathlib import Path
from mmbc_jax.runs.lock import WorkdirLock

with WorkdirLock(Path(sys.argv[1])).held():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_process_is_told_of_the_first(holder, tmp_path):
    start = time.monotonic()
    with pytest.raises(WorkdirError, match=rf"is in use by process {holder.pid} on {os.uname().nodename};"):
        WorkdirLock(tmp_path).held().__enter__()
    assert time.monotonic() - start < 5.0


def test_a_dead_process_leaves_no_lock_that_counts(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / LOCK).exists()
    with WorkdirLock(tmp_path).held():
        assert f"pid={os.getpid()}\n" in (tmp_path / LOCK).read_text()
    assert not (tmp_path / LOCK).exists()


def test_a_machine_that_gives_no_sign_is_waited_for(holder, tmp_path, monkeypatch):
    """The mark of a process on another machine is watched by our own clock, whatever time it bears."""
    monkeypatch.setattr(lock_lib, "_LEASE", 0.4)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    text = (tmp_path / LOCK).read_text()
    here = f"host={os.uname().nodename}"
    assert here in text
    (tmp_path / LOCK).write_text(
        text.replace(here, "host=elsewhere").replace("duration=30.0", "duration=0.4")
    )
    for jump in (-1e6, 1e6):
        os.utime(tmp_path / LOCK, (time.time() + jump,) * 2)
    with WorkdirLock(tmp_path).held():
        assert f"pid={os.getpid()}\n" in (tmp_path / LOCK).read_text()


def test_the_holder_enters_again(tmp_path):
    lock = WorkdirLock(tmp_path)
    with lock.held():
        with lock.held():
            pass
        assert lock.path.exists()
        lock.check()
    assert not lock.path.exists()


def test_a_lock_that_was_taken_over_stops_its_old_holder(tmp_path, monkeypatch):
    monkeypatch.setattr(lock_lib, "_LEASE", 0.3)
    lock = WorkdirLock(tmp_path)
    with lock.held():
        text = lock.path.read_text()
        lock.path.unlink()
        lock.path.write_text(text.replace("token=", "token=0"))
        end = time.monotonic() + 5.0
        while lock._lease.compromise is None and time.monotonic() < end:
            time.sleep(0.05)
        with pytest.raises(WorkdirError, match=r"was taken over by process \d+ on .* continues the run"):
            lock.check()
