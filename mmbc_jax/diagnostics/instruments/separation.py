r"""Instrument: how far apart the demonstrated modes lie.

`separation/<name>`: everything of `diagnostics.data_separation.separation`, on raw chunks and in normalised units,
labelled and by clustering; where only images are observed, of chunks whatever their observation, so that modes of
different places count together. `separation/path_*`: the same question in the metric of the other instruments,
paths in physical units, at the anchors where most modes meet: `path_modes`, `path_multimodal` (share of the anchors
with two modes or more), `path_delta` between centres,
`path_set_delta` between the sets that hold 95 % of each mode, `path_radius` of these sets; absent where only
images are observed.

Hypotheses: those of `diagnostics.data_separation` and `diagnostics._path_metric`. A deterministic regression can
succeed where nothing is separated, so these figures belong next to every success rate.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax

from mmbc_jax.core.errors import DataError
from mmbc_jax.core.options import option
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Key
from mmbc_jax.diagnostics._path_metric import AnchorOptions, AnchorRule, average
from mmbc_jax.diagnostics.case import Case
from mmbc_jax.diagnostics.data_separation import separation


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeparationOptions(AnchorOptions):
    """Anchors of the paths, and groups of the chunks."""

    chunk_anchors: int = option(64, "observations at which raw chunks are grouped", low=1)
    chunk_neighbours: int = option(64, "most demonstrations at each", low=1)
    max_modes: int = option(8, "largest number of groups tried", low=1, high=1024)


@dataclasses.dataclass(frozen=True)
class SeparationInstrument:
    """See the module docstring.

    Attributes:
      options: of the plug-in.
      of_data: it asks the demonstrations alone, so that one measurement serves all runs.
    """

    of_data: ClassVar[bool] = True
    options: SeparationOptions

    def measure(self, case: Case, key: Key) -> dict[str, float]:
        """The figures of the module docstring; empty where no window is fully recorded."""
        key_anchors, key_seed = jax.random.split(key)
        try:
            chunks = separation(
                case.windows,
                self.options.chunk_anchors,
                self.options.chunk_neighbours,
                int(jax.random.randint(key_seed, (), 0, 2**31 - 1)),
                radius=self.options.radius,
                max_modes=self.options.max_modes,
                spec=case.policy.spec.obs,
            )
        except DataError:
            return {}
        entries = []
        for anchor in AnchorRule(self.options).find(case, key_anchors):
            if anchor.modes is not None:
                entries.append(
                    {
                        "separation/path_modes": anchor.modes.count,
                        "separation/path_multimodal": anchor.modes.count > 1,
                        "separation/path_delta": anchor.modes.centre_distance,
                        "separation/path_set_delta": anchor.modes.set_distance,
                        "separation/path_radius": anchor.modes.radius.mean(),
                    }
                )
        return average([chunks]) | average(entries)


@register("diagnostic", SeparationOptions)
def build(options: SeparationOptions) -> SeparationInstrument:
    """The instrument."""
    return SeparationInstrument(options)
