"""Windows that do not fit on the device, a block at a time.

A pass is a permutation of all windows, drawn from (seed, number of the pass). Passes follow each other without a gap,
and block e holds the windows at positions e M_b to (e + 1) M_b of that sequence: all blocks have the same shapes,
every window comes once per pass, and a block is a function of the seed and its number, whatever was asked for before.

What is permuted are runs of up to `RUN` windows that follow each other in an episode, so that windows with a history
share the rows they observe. The block after the one asked for is cut and transferred in the background.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import numpy as np

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.observations import ObsSpec
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.data.windows import Recorded, Windows, window_bytes, window_rows
from mmbc_jax.ops.normalisation import Normalizer

RUN = 64
BUFFERS = (
    3  # blocks on the device: trained on, in transfer, and the one before, which the caller may still hold
)


class Blocks:
    """Blocks of windows by epoch; see the module docstring.

    Attributes:
      size: M_b, windows of a block.
      total: M, windows of a pass.

    Args:
      episodes: physical units, not empty.
      normalizer: of single observations, without history.
      chunk_len: H >= 1.
      megabytes: device memory for all blocks that exist at one time, in 2^20 bytes.
      seed: of the permutations.
      which: one of `windows.WINDOWS`.
      observe: T >= 1.
      put: places a block's arrays on the device or devices.

    Raises:
      ConfigError: not even blocks of one window fit.
      ValueError: as `windows.make_windows`.
    """

    def __init__(
        self,
        episodes: Episodes,
        normalizer: Normalizer,
        chunk_len: int,
        megabytes: float,
        seed: int,
        which: str = "all",
        observe: int = 1,
        put: Callable[[Windows], Windows] = jax.device_put,
    ):
        self._recorded = Recorded.of(episodes, normalizer, chunk_len, observe)
        self._runs = _runs(episodes, which)
        self._earlier = observe - 1 if which == "all" else 0
        self._shortest = np.cumsum(np.sort(np.repeat([len(run) for run in self._runs], 2)))
        self.total = len(window_rows(episodes, which))
        row = episodes.spec.nbytes
        own = window_bytes(episodes, chunk_len, which, observe) // self.total - row

        def megabytes_of(size: int) -> float:
            return BUFFERS * (self._rows(size) * row + size * own) / 2**20

        self.size = bisect.bisect_right(range(1, self.total + 1), megabytes, key=megabytes_of)
        if self.size == 0:
            needed = f"at least {megabytes_of(1):.3g}, which {BUFFERS} blocks of one window take"
            raise ConfigError("data.stream", megabytes, needed)
        self._seed, self._put = seed, put
        self._pool = ThreadPoolExecutor(1, "blocks")
        self._held: dict[int, Future[Windows]] = {}

    def block(self, epoch: int) -> Windows:
        """The windows of an epoch >= 0, on the device; those of the next one are on their way afterwards."""
        for number in [number for number in self._held if number not in (epoch, epoch + 1)]:
            self._held.pop(number).cancel()
        for number in (epoch, epoch + 1):
            if number not in self._held:
                self._held[number] = self._pool.submit(self._make, number)
        return self._held[epoch].result()

    def rows(self, epoch: int) -> np.ndarray:
        """[M_b] the recorded rows at which the windows of an epoch start."""
        first, parts = epoch * self.size, []
        while first < (epoch + 1) * self.size:
            number, offset = divmod(first, self.total)
            taken = min(self.total - offset, (epoch + 1) * self.size - first)
            parts.append(self._pass(number)[offset : offset + taken])
            first += taken
        return np.concatenate(parts)

    def _pass(self, number: int) -> np.ndarray:
        """[M] the rows of all windows in the order of a pass."""
        order = np.random.default_rng((self._seed, number)).permutation(len(self._runs))
        return np.concatenate([self._runs[i] for i in order])

    def _make(self, epoch: int) -> Windows:
        return self._put(self._recorded.cut(self.rows(epoch), self._rows(self.size)))

    def _rows(self, size: int) -> int:
        """Rows of observations that any block of `size` windows needs at most."""
        # A run needs the rows before it, too. At worst a block is made of the shortest runs, each twice where two
        # passes meet, and of parts of two others.
        runs = int(np.searchsorted(self._shortest, size, side="right")) + 2
        return min(size + self._earlier * runs, len(self._recorded.action))


def check_stream(megabytes: float, obs: ObsSpec, chunk_len: int, action_dim: int) -> None:
    """Raises ConfigError where blocks of one window cannot fit, whatever the demonstrations: a lower bound."""
    needed = BUFFERS * (obs.nbytes + 4 * chunk_len * action_dim) / 2**20
    if 0 < megabytes < needed:
        raise ConfigError("data.stream", megabytes, f"0, or at least {needed:.3g}")


def _runs(episodes: Episodes, which: str) -> list[np.ndarray]:
    """The rows at which windows start, in runs of up to `RUN` from one episode."""
    if which == "first":
        return [np.array([row]) for row in episodes.starts]
    return [
        np.arange(first, min(first + RUN, end))
        for start, end in zip(episodes.starts, episodes.ends, strict=True)
        for first in range(start, end, RUN)
    ]
