"""Claims frozen before fresh seeds and demonstrations test them.

`frozen.json` beside the study files says of each: the hash of its content, the date, and the range of seeds and of
data seeds that had been used until then. A claim counts where its file is as it was frozen, and the run used seeds
and data seeds that are in neither range.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmbc_jax.core.files import read_json, write_json
from mmbc_jax.study.plan import Study

NAME = "frozen.json"
_RANGES = ("seeds", "data_seeds")


@dataclasses.dataclass(frozen=True)
class Frozen:
    """The record of a folder of study files.

    Attributes:
      folder: with the files.
      files: {name of a file: {"sha256", "date", "seeds": [first, last], "data_seeds": [first, last]}}.
    """

    folder: Path
    files: Mapping[str, Mapping[str, Any]]

    @staticmethod
    def read(folder: Path) -> Frozen:
        """The record of a folder; empty where there is none."""
        path = Path(folder) / NAME
        return Frozen(Path(folder), read_json(path) if path.exists() else {})

    def reason(self, source: str, seeds: Collection[int], data_seeds: Collection[int]) -> str:
        """Why claims of a file do not count on these seeds; empty where they do."""
        entry = self.files.get(Path(source).name)
        if entry is None:
            return "not frozen"
        if entry["sha256"] != digest(Path(source)):
            return "changed since it was frozen"
        for name, used in zip(_RANGES, (seeds, data_seeds), strict=True):
            first, last = entry[name]
            if not used or any(first <= seed <= last for seed in used):
                return f"seen data: {name.replace('_', ' ')} {first} to {last} had been used"
        return ""


def digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def freeze(studies: Sequence[Study], today: datetime.date | None = None) -> Path:
    """Records the files that state these studies, next to them.

    The ranges are those of the variants' own seeds and data seeds, joined with those that were recorded before.

    Args:
      studies: with every variant as it is run by default.
      today: the date; None for today's.

    Returns:
      The path of the record.
    """
    folder = Path(studies[0].source).parent
    files: dict[str, Any] = dict(Frozen.read(folder).files)
    for source in dict.fromkeys(study.source for study in studies):
        own = [variant.config for study in studies if study.source == source for variant in study.variants]
        used = {
            "seeds": [seed for c in own for seed in (c.first_seed, c.first_seed + c.seeds - 1)],
            "data_seeds": [c.data.seed for c in own],
        }
        before = files.get(Path(source).name, {})
        ranges = {name: [*used[name], *before.get(name, ())] for name in _RANGES}
        files[Path(source).name] = {
            "sha256": digest(Path(source)),
            "date": (today or datetime.date.today()).isoformat(),
            **{name: [min(seeds), max(seeds)] for name, seeds in ranges.items()},
        }
    write_json(folder / NAME, dict(sorted(files.items())))
    return folder / NAME
