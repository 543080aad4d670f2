r"""Instrument: how far apart the demonstrated modes lie.

`separation/<name>`: everything of `diagnostics.data_separation.separation`, on raw chunks and in normalised units,
labelled and by clustering. `separation/path_*`: the same question in the metric of the other instruments,
paths in physical units, at the anchors where most modes meet: `path_modes`, `path_delta` between centres,
`path_set_delta` between the sets that hold 95 % of each mode, `path_radius` of these sets.

Hypotheses: those of `diagnostics.data_separation` and `diagnostics._path_metric`. A deterministic regression can
succeed where nothing is separated, so these figures belong next to every success rate.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
from ml_collections import ConfigDict

from mmbc_jax.core.config import check_range
from mmbc_jax.core.errors import DataError
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Key
from mmbc_jax.diagnostics._path_metric import AnchorRule, anchor_config, anchor_rule, average
from mmbc_jax.diagnostics.case import Case
from mmbc_jax.diagnostics.data_separation import separation


def default_config() -> ConfigDict:
    """Anchors of the paths; `chunk_anchors`, `chunk_neighbours`, `max_modes` of the chunks."""
    return anchor_config(chunk_anchors=64, chunk_neighbours=64, max_modes=8)


@dataclasses.dataclass(frozen=True)
class SeparationInstrument:
    """See the module docstring.

    Attributes:
      rule: of the anchors.
      chunk_anchors: observations at which raw chunks are grouped.
      chunk_neighbours: most demonstrations at each.
      max_modes: largest number of groups tried.
      of_data: it asks the demonstrations alone, so that one measurement serves all runs.
    """

    of_data: ClassVar[bool] = True
    rule: AnchorRule
    chunk_anchors: int
    chunk_neighbours: int
    max_modes: int

    def measure(self, case: Case, key: Key) -> dict[str, float]:
        """The figures of the module docstring; empty where no window is fully recorded."""
        key_anchors, key_seed = jax.random.split(key)
        try:
            chunks = separation(
                case.windows,
                self.chunk_anchors,
                self.chunk_neighbours,
                int(jax.random.randint(key_seed, (), 0, 2**31 - 1)),
                radius=self.rule.radius,
                max_modes=self.max_modes,
            )
        except DataError:
            return {}
        entries = []
        for anchor in self.rule.find(case, key_anchors):
            if anchor.modes is not None:
                entries.append(
                    {
                        "separation/path_modes": anchor.modes.count,
                        "separation/path_delta": anchor.modes.centre_distance,
                        "separation/path_set_delta": anchor.modes.set_distance,
                        "separation/path_radius": anchor.modes.radius.mean(),
                    }
                )
        return average([chunks]) | average(entries)


@register("diagnostic", default_config)
def build(cfg: ConfigDict) -> SeparationInstrument:
    """The instrument.

    Raises:
      ConfigError: a count below 1 or a radius that is not positive.
    """
    for field in ("chunk_anchors", "chunk_neighbours", "max_modes"):
        check_range(f"diagnostic.{field}", cfg[field], 1)
    return SeparationInstrument(anchor_rule(cfg), cfg.chunk_anchors, cfg.chunk_neighbours, cfg.max_modes)
