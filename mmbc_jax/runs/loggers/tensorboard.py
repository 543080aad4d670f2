"""TensorBoard's event files: curves of each run; at the end hparams, final figures, the configuration, pictures.

A file is a sequence of records: length (8 bytes), its checksum (4), the event, its checksum (4). They are made and
opened only to append what has gathered, since a sweep has more runs than a process may hold files open.
"""

from __future__ import annotations

import math
import shutil
import struct
import time

from tensorboardX import summary as made
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c

from mmbc_jax.core.options import Options
from mmbc_jax.core.registry import register
from mmbc_jax.runs.logger import AXES, Ended, EndedRun, Place, Row

FOLDER = "tensorboard"
_RESULTS = "results"
_PLAIN = (bool, int, float, str)


class TensorBoard:
    """Writes `tensorboard/STAGE/FIELD=VALUE/seed=N/` and, at the end, `tensorboard/results/`.

    Args:
      place: where.
    """

    def __init__(self, place: Place):
        self._place, self._root = place, place.workdir / FOLDER
        self._gathered: dict[str, bytearray] = {}
        self._name = ""

    def restart(self) -> None:
        """Removes the event files of its stages."""
        stages = self._place.stages
        for folder in [self._root] if stages is None else [self._root / stage for stage in stages]:
            shutil.rmtree(folder, ignore_errors=True)
        self._gathered.clear()
        self._name = f"events.out.tfevents.{int(time.time())}.metrics"

    def add(self, row: Row) -> None:
        """Gathers the finite scalars of a row."""
        values = {
            name: float(value)
            for name, value in row.items()
            if name not in AXES and isinstance(value, (int, float)) and math.isfinite(value)
        }
        self._event(self._place.of(row), _scalars(values), row["step"])

    def flush(self) -> None:
        """Appends what has gathered to the files."""
        for run, gathered in self._gathered.items():
            if gathered:
                path = self._root / run / self._name
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("ab") as handle:
                    handle.write(gathered)
                gathered.clear()

    def finish(self, ended: Ended) -> None:
        """Hparams and final figures of each run, the configuration as text, and the pictures."""
        shutil.rmtree(self._root / _RESULTS, ignore_errors=True)
        self._name = f"events.out.tfevents.{int(time.time())}.results"
        self._gathered.clear()
        self._event(_RESULTS, made.text("config", "```python\n" + ended.config + "\n```"), 0)
        for path in ended.figures:
            content = path.read_bytes()
            width, height = struct.unpack(">II", content[16:24])  # of the first chunk of every PNG file
            image = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=content)
            self._event(_RESULTS, Summary(value=[Summary.Value(tag=f"figures/{path.stem}", image=image)]), 0)
        for run in ended.runs:
            self._results(run)
        self.flush()

    def _results(self, run: EndedRun) -> None:
        place = f"{_RESULTS}/{run.name}"
        chosen = {name: v if isinstance(v, _PLAIN) else str(v) for name, v in run.hparams.items()}
        for part in made.hparams(chosen, dict(run.metrics)):
            self._event(place, part, 0)
        self._event(place, _scalars(run.metrics), 0)

    def _event(self, run: str, what: Summary, step: int) -> None:
        if run not in self._gathered:
            self._gathered[run] = bytearray(
                _record(Event(wall_time=time.time(), file_version="brain.Event:2"))
            )
        self._gathered[run] += _record(Event(wall_time=time.time(), step=step, summary=what))


def _scalars(values) -> Summary:  # type: ignore[no-untyped-def]
    return Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])


def _record(event: Event) -> bytes:
    data = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    checks = (struct.pack("<I", masked_crc32c(part)) for part in (length, data))
    return length + next(checks) + data + next(checks)


@register("logger", Options)
def build(options: Options, place: Place) -> TensorBoard:
    """See the module docstring."""
    return TensorBoard(place)
