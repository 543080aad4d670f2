"""What a LeRobotDataset says of itself: its features, and in which files its episodes lie."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from mmbc_jax.core.errors import DataError, cut, shown
from mmbc_jax.core.files import read_json
from mmbc_jax.data.loaders import _parquet

INFO = "meta/info.json"
VERSIONS = ("v2.0", "v2.1", "v3.0")
_MOST = 2**31 - 1
_CHUNK = 1000  # episodes in a folder of version 2, where info.json does not say


@dataclasses.dataclass(frozen=True)
class Stored:
    """One episode.

    Attributes:
      index: of the episode.
      length: its steps.
      data: the Parquet file with its rows.
      videos: {feature: (file, time in it at which the episode begins, in s)}.
    """

    index: int
    length: int
    data: Path
    videos: dict[str, tuple[Path, float]]


@dataclasses.dataclass(frozen=True)
class Meta:
    """The metadata of a data set.

    Attributes:
      folder: of the data set.
      info: content of `meta/info.json`.
      features: {name: {"dtype": ..., "shape": [...]}}.
      fps: frames per second.
    """

    folder: Path
    info: dict[str, Any]
    features: dict[str, dict[str, Any]]
    fps: float

    @staticmethod
    def of(folder: Path) -> Meta:
        """Reads `meta/info.json`.

        Raises:
          DataError: it is missing, damaged, or of a version that is not read.
        """
        path = folder / INFO
        try:
            info = read_json(path)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error})") from error
        version = info.get("codebase_version")
        if version not in VERSIONS:
            raise DataError(
                f"{path}: codebase_version is {shown(version)}, must be one of {', '.join(VERSIONS)}"
            )
        features, fps = info.get("features"), info.get("fps")
        if not isinstance(features, dict) or not all(_feature(one) for one in features.values()):
            raise DataError(f"{path}: features must map names to a dtype and a shape of whole numbers")
        if isinstance(fps, bool) or not isinstance(fps, (int, float)) or not 0 < fps < 1e6:
            raise DataError(f"{path}: fps is {shown(fps)}, must be a number above 0")
        return Meta(folder, info, features, float(fps))

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one row of a feature."""
        return tuple(self.features[name]["shape"])

    def kind(self, name: str) -> str:
        """`image`, `video`, or the type of its numbers."""
        return str(self.features[name]["dtype"])

    def episodes(self, videos: list[str]) -> list[Stored]:
        """All episodes in the order of their index, with the files of some videos.

        Raises:
          DataError: the metadata are missing or damaged.
        """
        read = self._version_3 if self.info["codebase_version"].startswith("v3") else self._version_2
        found = sorted(read(videos), key=lambda one: one.index)
        if not found:
            raise DataError(f"{self.folder}: holds no episodes")
        return found

    def _version_2(self, videos: list[str]) -> list[Stored]:
        path, found = self.folder / "meta/episodes.jsonl", []
        try:
            lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
            rows = [(int(line["episode_index"]), int(line["length"])) for line in lines]
            chunk = int(self.info.get("chunks_size", _CHUNK))
            for index, length in rows:
                where = {"episode_chunk": index // chunk, "episode_index": index}
                files = {name: (self._file("video_path", video_key=name, **where), 0.0) for name in videos}
                found.append(Stored(index, length, self._file("data_path", **where), files))
        except DataError:
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {cut(str(error))}"
            raise DataError(f"{path}: needs lines with episode_index and length ({said})") from error
        return found

    def _version_3(self, videos: list[str]) -> list[Stored]:
        paths = sorted((self.folder / "meta/episodes").glob("*/*.parquet"))
        columns = ["episode_index", "length", "data/chunk_index", "data/file_index"]
        for name in videos:
            columns += [f"videos/{name}/{part}" for part in ("chunk_index", "file_index", "from_timestamp")]
        found = []
        for path in paths:
            for row in _parquet.table(path, columns, str(self.folder)).to_pylist():
                if lost := [key for key in columns if not isinstance(row[key], (int, float))]:
                    raise DataError(f"{path}: {lost[0]} is {shown(row[lost[0]])}, must be a number")
                files = {
                    name: (
                        self._file("video_path", video_key=name, **_place(row, f"videos/{name}")),
                        float(row[f"videos/{name}/from_timestamp"]),
                    )
                    for name in videos
                }
                data = self._file("data_path", **_place(row, "data"))
                found.append(Stored(int(row["episode_index"]), int(row["length"]), data, files))
        return found

    def _file(self, template: str, **fields: Any) -> Path:
        """The file that a template of info.json names, within the folder."""
        text = self.info.get(template)
        try:
            if not isinstance(text, str):
                raise ValueError("no text")
            path = (self.folder / text.format(**fields)).resolve()
        except Exception as error:
            raise DataError(
                f"{self.folder / INFO}: {template} is {shown(text)}, must be a template of {', '.join(fields)}"
            ) from error
        if not path.is_relative_to(self.folder.resolve()):
            raise DataError(f"{self.folder / INFO}: {template} leads to {path}, out of the folder")
        return path


def _feature(value: Any) -> bool:
    shape = value.get("shape") if isinstance(value, dict) else None
    return (
        isinstance(shape, list)
        and isinstance(value.get("dtype"), str)
        and all(isinstance(size, int) and 0 < size <= _MOST for size in shape)
    )


def _place(row: dict[str, Any], prefix: str) -> dict[str, int]:
    return {part: int(row[f"{prefix}/{part}"]) for part in ("chunk_index", "file_index")}
