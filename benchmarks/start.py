"""What a start costs: the default job's first and second start to its first update, and the peak memory of the job.

A start is `python -m mmbc_jax.train` in a fresh process and a fresh work directory, ended just before the first
program of training would run: imports, configuration, recording the demonstrations, compilation. The first start
finds an empty compilation cache, the second what the first left there. Processor time is of the whole process, from
the kernel; peak memory is of one complete job.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.timing import Samples, spread, summarise

FIRST, SECOND = "first start", "second start"
_UNTIL_UPDATE = """
import os, sys
from mmbc_jax import train
from mmbc_jax.runs.loop import StageLoop
StageLoop.run = lambda *_: os._exit(0)
train.main(sys.argv[1:])
"""


def run_child(command: Sequence[str], cache: Path) -> tuple[float, float, int]:
    """(seconds, processor seconds, peak resident bytes) of a Python process that shows nothing.

    Raises:
      subprocess.CalledProcessError: it failed.
    """
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PLATFORMS": "cpu"}
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, *command], env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, list(command))
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def measure_starts(pairs: int, job: Sequence[str]) -> dict[str, Any]:
    """Times pairs of a first and a second start; unit: one start.

    Args:
      pairs: how many.
      job: arguments of `mmbc_jax.train` without the work directory.
    """
    samples, peaks = {FIRST: Samples(), SECOND: Samples()}, {FIRST: [], SECOND: []}
    for _ in range(pairs):
        with tempfile.TemporaryDirectory() as folder:
            for name, sample in samples.items():
                workdir = str(Path(folder) / name.split()[0])
                command = ["-c", _UNTIL_UPDATE, *job, "--workdir", workdir]
                seconds, processor, memory = run_child(command, Path(folder) / "cache")
                sample.wall.append(seconds)
                sample.cpu.append(processor)
                peaks[name].append(memory)
    found = summarise(samples, SECOND)
    return {**found, "peak_rss_bytes": {name: spread(values) for name, values in peaks.items()}}


def measure(cores: int, quick: bool) -> dict[str, Any]:
    """Starts and a complete job on the pinned cores; `quick` takes one pair, and a smoke job as the whole one."""
    del cores  # pinned already, and children are pinned with their parent
    job = ["--config", "configs/smoke.py"] if quick else []
    case = measure_starts(1 if quick else 5, [])
    with tempfile.TemporaryDirectory() as folder:
        command = ["-m", "mmbc_jax.train", *job, "--workdir", str(Path(folder) / "job")]
        seconds, processor, memory = run_child(command, Path(folder) / "cache")
    return {
        "cases": [case],
        "job": {"seconds": seconds, "cpu_seconds": processor},
        "memory": {"peak_rss_bytes": memory},
    }
