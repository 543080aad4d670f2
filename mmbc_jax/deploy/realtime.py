r"""Acting while the next chunk is sampled.

Once `execute` actions of a chunk were played, the next one is asked for in a thread, and the old one goes on. When it
is there, d control steps after its observation, its first d actions are past: those were the old chunk's, and it is
entered at its action d. Where both chunks have an action for a control step, they are blended by the soft mask of
Real-Time Chunking (Black et al. 2025),

  w_i old + (1 - w_i) new,   w_i = c_i (e^{c_i} - 1) / (e - 1),   c_i = (o - i) / (o - d + 1),   d <= i < o,

with i counted from the new observation and o actions of the old chunk left at that moment; w_i = 1 before d, 0 from
o. What is not done of that paper: there the mask guides the sampler itself, so that the new chunk is drawn to agree
with the old one (inpainting); here the policy is not changed, and the chunks are joined afterwards. So this works
with every family, but two chunks that go different ways blend into neither: hold the mode.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import numpy as np

Sample = Callable[[], Any]


def soft_mask(length: int, left: int, delay: int) -> np.ndarray:
    """[H] w above: weight of the old chunk at each action of the new one.

    Args:
      length: H.
      left: o, actions of the old chunk from the new one's observation on.
      delay: d <= o, of which so many are past.
    """
    index = np.arange(length)
    rest = np.clip((left - index) / (left - delay + 1), 0.0, 1.0)
    soft = rest * np.expm1(rest) / np.expm1(1.0)
    return np.where(index < delay, 1.0, np.where(index < left, soft, 0.0))


def joined(old: Any, new: Any, began: int, delay: int) -> np.ndarray:
    """The chunk that goes on.

    Args:
      old: [B, H, A] played until now.
      new: [B, H, A] sampled of what was observed when the old one was at its action `began`.
      began: in [0, H].
      delay: control steps since.

    Returns:
      [B, H, A], counted as the new one.
    """
    old, new = np.asarray(old), np.asarray(new)
    left = old.shape[1] - began
    weight = soft_mask(old.shape[1], left, delay)[:, None].astype(new.dtype)
    same_time = np.concatenate([old[:, began:], new[:, left:]], 1)
    return weight * same_time + (1 - weight) * new


class RealTime:
    """See the module docstring.

    Args:
      length: H.
      execute: actions of a chunk after which the next one is asked for, below H.
      executor: where chunks are sampled; None for a thread of its own.

    Attributes:
      delay: d of the last chunk that was joined.
      waits: how often the old chunk ran out, so that `act` had to wait for the next one.
    """

    def __init__(self, length: int, execute: int, executor: Executor | None = None):
        self._length, self._execute = length, execute
        self._executor = executor or ThreadPoolExecutor(1, "next_chunk")
        self.delay, self.waits = 0, 0
        self.reset()

    def reset(self) -> None:
        """Begins an episode; a chunk of the last one that is still being sampled is dropped."""
        self._plan: Any = None
        self._index, self._began = 0, 0
        self._next: Future[Any] | None = None

    def act(self, ask: Callable[[], Sample]) -> Any:
        """The action [B, A] of this control step.

        Args:
          ask: takes down what is observed now, and returns what samples the chunk [B, H, A] of it.
        """
        if self._plan is None:
            self._plan, self._index = ask()(), 0
        elif self._next is None and self._index >= self._execute:
            self._next, self._began = self._executor.submit(ask()), self._index
        if self._next is not None:
            over = self._index >= self._length
            self.waits += over and not self._next.done()
            if over or self._next.done():
                self.delay = self._index - self._began
                self._plan = joined(self._plan, self._next.result(), self._began, self.delay)
                self._index, self._next = self.delay, None
        action = self._plan[:, self._index]
        self._index += 1
        return action

    def stop(self) -> None:
        """Ends the thread, once what it samples is done."""
        self._executor.shutdown(wait=True, cancel_futures=True)
