"""The section `data` of a configuration."""

from __future__ import annotations

import dataclasses

from mmbc_jax.core.options import Options, option
from mmbc_jax.data import load
from mmbc_jax.data.windows import WINDOWS
from mmbc_jax.ops.action_scale import SCALES


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions(Options):
    """Demonstrations."""

    path: str = option(
        "",
        "file or folder of demonstrations, or several with commas between; empty to record the environment's "
        "scripted expert",
    )
    subset: tuple[str, ...] = option(
        (), "for each file which of its episodes are read, start:stop or start:stop:step; empty for all"
    )
    weights: tuple[float, ...] = option(
        (),
        "for each file its share of the training windows that are drawn, whatever its size, in any unit; empty to "
        "draw all windows alike",
        low=0.0,
    )
    episodes: int = option(1000, "recorded from the expert", low=1)
    noise: float = option(
        0.0, "execution noise of the expert, in units of the action range", low=0.0, high=2.0
    )
    seed: int = option(0, "of the recording and of the split", low=0, high=2**32 - 1)
    holdout: float = option(0.1, "share of episodes kept for validation", low=0.0, high=0.9)
    windows: str = option(
        "all", "windows start at all steps, or at the first of each episode (open loop)", choices=WINDOWS
    )
    scale: str = option(
        "auto",
        "what -1 and 1 are in a policy's actions: the environment's box, the range of the data, their 1 % and 99 % "
        "quantiles, or their mean -+ a standard deviation; auto: the box, but the range of the data in columns where "
        "they fill less than a fifth of it. Observations always take their range",
        choices=SCALES,
    )
    jitter: float = option(
        0.0,
        "standard deviation by which bc and baseline move observed positions, with actions that lead back, in the "
        "physical units of the actions",
        low=0.0,
    )
    stream: float = option(
        0.0, "device memory for windows in MB; the rest waits on the host; 0 for all", low=0.0
    )
    reader: load.ReaderOptions = option(load.ReaderOptions(), "of files")

    def check(self) -> None:
        """Raises ConfigError where shares are asked for of windows that are streamed, each once per pass."""
        if self.weights and self.stream:
            raise self.error("weights", "(): data.stream draws every window once per pass")
        for field in ("subset", "weights"):
            if getattr(self, field) and not self.path:
                raise self.error(field, "(): data.path is empty")
