"""The machine a benchmark runs on: pinning, load, memory and the speed of a copy."""

from __future__ import annotations

import os
import time

_LOAD_LIMIT = 0.5  # runnable processes per core beside this one, above which a run waits
_STREAM_MIB = 64


def pin(cores: int) -> list[int]:
    """Holds this process, and every thread it will start, to the last `cores` cores it may use.

    Call it before JAX or PyTorch is imported: both size their thread pools from the affinity mask, and
    XLA's own one-thread flag does not hold it to one core.

    Args:
      cores: at least 1.

    Returns:
      The cores.

    Raises:
      ValueError: the machine has fewer.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < cores:
        raise ValueError(f"{cores} cores asked for, {len(allowed)} available")
    os.sched_setaffinity(0, allowed[-cores:])
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(cores)
    return allowed[-cores:]


def load_average() -> float:
    """Runnable processes on the machine, averaged over the last minute."""
    return round(os.getloadavg()[0], 2)


def wait_for_quiet(patience: float) -> float:
    """Waits until the machine is idle enough to measure on, at most `patience` seconds.

    Returns:
      The load average at the end, per minute.
    """
    limit = _LOAD_LIMIT * (os.cpu_count() or 1)
    end = time.monotonic() + patience
    while load_average() > limit and time.monotonic() < end:
        time.sleep(5.0)
    return load_average()


def memory() -> dict[str, int]:
    """Resident bytes of this process now and at their highest, from the kernel's own account."""
    with open("/proc/self/status", encoding="utf-8") as status:
        fields = dict(line.split(":", 1) for line in status)
    kibibytes = {"rss_bytes": "VmRSS", "peak_rss_bytes": "VmHWM"}
    return {name: int(fields[field].split()[0]) * 1024 for name, field in kibibytes.items()}


def copy_rate(repeats: int = 60) -> float:
    """GB read plus GB written per second by a large float32 copy on the pinned cores, the best of `repeats`."""
    import torch  # whose copy uses all cores

    source = torch.ones(_STREAM_MIB * 2**18)
    target = torch.empty_like(source)
    best = 0.0
    for _ in range(repeats):
        start = time.perf_counter()
        target.copy_(source)
        best = max(best, 2e-9 * 4 * source.numel() / (time.perf_counter() - start))
    return best
