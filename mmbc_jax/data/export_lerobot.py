"""Episodes as a LeRobotDataset of version 3.0: Parquet files of many episodes each, and what describes them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmbc_jax.core.extras import imported
from mmbc_jax.core.files import write_json
from mmbc_jax.data.episodes import Episodes

DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_CHUNK, _MEGABYTES = 1000, 100  # files of a folder, and of a file
_QUANTILES = (0.01, 0.10, 0.50, 0.90, 0.99)
_COUNTED = ("frame_index", "episode_index", "index", "task_index")


def write_lerobot(episodes: Episodes, folder: Path, fps: int, task: str, robot: str) -> None:
    """Writes a data set; images as columns of PNG, which lose nothing.

    A plain observation, and an entry `state`, is `observation.state`; other vectors are `observation.<entry>`, images
    `observation.images.<entry>`. Labels are a column `mode`, and their number is in `meta/modes.json`, which LeRobot
    does not look at.

    Args:
      episodes: physical units.
      folder: of the data set, which is made.
      fps: frames per second; step t has the time t / fps.
      task: what all episodes do, in words.
      robot: its type, in a word.

    Raises:
      UserError: the package pyarrow is not installed.
    """
    parquet = imported("pyarrow.parquet", "data", f"{folder}: writing Parquet files")
    arrays = _arrays(episodes, fps)
    features = {name: _feature(name, values) for name, values in arrays.items()}
    files = _write_data(folder, parquet, episodes, arrays)
    (folder / "meta/episodes/chunk-000").mkdir(parents=True)
    parquet.write_table(_episodes(episodes, files, task), folder / "meta/episodes/chunk-000/file-000.parquet")
    parquet.write_table(_tasks(task), folder / "meta/tasks.parquet")
    write_json(folder / "meta/stats.json", {name: _statistics(values) for name, values in arrays.items()})
    if episodes.mode is not None:
        write_json(folder / "meta/modes.json", {"num_modes": episodes.num_modes})
    write_json(
        folder / "meta/info.json",
        {
            "codebase_version": "v3.0",
            "robot_type": robot,
            "total_episodes": len(episodes),
            "total_frames": len(episodes.action),
            "total_tasks": 1,
            "chunks_size": _CHUNK,
            "data_files_size_in_mb": _MEGABYTES,
            "video_files_size_in_mb": 5 * _MEGABYTES,
            "fps": fps,
            "splits": {"train": f"0:{len(episodes)}"},
            "data_path": DATA,
            "video_path": None,
            "features": features,
        },
    )


def _arrays(episodes: Episodes, fps: int) -> dict[str, np.ndarray]:
    """{feature: [n, ...]} of all features."""
    rows, lengths = np.arange(len(episodes.action)), episodes.lengths
    frame = rows - np.repeat(episodes.starts, lengths)
    found: dict[str, np.ndarray] = {}
    for name, values in episodes.entries.items():
        short = "state" if name == "obs" else name
        found[f"observation.{'images.' if values.ndim > 2 else ''}{short}"] = values
    found["action"] = episodes.action
    if episodes.mode is not None:
        found["mode"] = np.repeat(episodes.mode.astype(np.int64), lengths)[:, None]
    found["timestamp"] = (frame / fps).astype(np.float32)[:, None]
    counted = (frame, np.repeat(np.arange(len(episodes)), lengths), rows, np.zeros_like(rows))
    return found | {name: values[:, None] for name, values in zip(_COUNTED, counted, strict=True)}


def _feature(name: str, values: np.ndarray) -> dict[str, Any]:
    if values.ndim > 2:
        names = ["height", "width", "channels"]
        return {"dtype": "image", "shape": list(values.shape[1:]), "names": names}
    return {"dtype": str(values.dtype), "shape": list(values.shape[1:]), "names": None}


def _write_data(
    folder: Path, parquet: Any, episodes: Episodes, arrays: dict[str, np.ndarray]
) -> list[tuple[int, int]]:
    """Writes the rows, an episode a row group; returns (chunk, file) of each episode."""
    found: list[tuple[int, int]] = []
    writer, held = None, 0
    try:
        for i, table in enumerate(_tables(episodes, arrays)):
            if writer is None or held + table.nbytes > _MEGABYTES * 2**20:
                number = 0 if not found else found[-1][0] * _CHUNK + found[-1][1] + 1
                place = divmod(number, _CHUNK)
                path = folder / DATA.format(chunk_index=place[0], file_index=place[1])
                path.parent.mkdir(parents=True, exist_ok=True)
                if writer is not None:
                    writer.close()
                writer, held = parquet.ParquetWriter(path, table.schema), 0
            writer.write_table(table, row_group_size=int(episodes.lengths[i]))
            held += table.nbytes
            found.append(place)
    finally:
        if writer is not None:
            writer.close()
    return found


def _tables(episodes: Episodes, arrays: dict[str, np.ndarray]) -> Iterator[Any]:
    """A pyarrow table of each episode."""
    pa = imported("pyarrow", "data", "writing Parquet files")
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for i in range(len(episodes)):
        columns = {}
        for name, values in arrays.items():
            own = values[episodes.episode(i)]
            if own.ndim > 2:
                pictures = [
                    {"bytes": _png(image), "path": f"frame-{t:06d}.png"} for t, image in enumerate(own)
                ]
                columns[name] = pa.array(pictures, picture)
            elif own.shape[1] == 1:
                columns[name] = pa.array(own[:, 0])
            else:
                flat = pa.array(np.ascontiguousarray(own).ravel())
                columns[name] = pa.FixedSizeListArray.from_arrays(flat, own.shape[1])
        yield pa.table(columns)


def _png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(stream, "PNG")
    return stream.getvalue()


def _episodes(episodes: Episodes, files: list[tuple[int, int]], task: str) -> Any:
    pa, count = imported("pyarrow", "data", "writing Parquet files"), len(episodes)
    zeros = np.zeros(count, np.int64)
    return pa.table(
        {
            "episode_index": np.arange(count),
            "tasks": pa.array([[task]] * count, pa.list_(pa.string())),
            "length": episodes.lengths,
            "data/chunk_index": np.asarray([chunk for chunk, _ in files]),
            "data/file_index": np.asarray([file for _, file in files]),
            "dataset_from_index": episodes.starts,
            "dataset_to_index": episodes.ends,
            "meta/episodes/chunk_index": zeros,
            "meta/episodes/file_index": zeros,
        }
    )


def _tasks(task: str) -> Any:
    """The one task as pandas writes a frame whose index are the tasks, since LeRobot reads it with pandas."""
    pa = imported("pyarrow", "data", "writing Parquet files")
    table = pa.table({"task_index": np.zeros(1, np.int64), "task": [task]})
    kinds = {"task_index": ("int64", "int64"), "task": ("unicode", "object")}
    columns = [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": own, "metadata": None}
        for name, (kind, own) in kinds.items()
    ]
    said = {"index_columns": ["task"], "column_indexes": [], "columns": columns, "pandas_version": "2.2.0"}
    return table.replace_schema_metadata({"pandas": json.dumps(said)})


def _statistics(values: np.ndarray) -> dict[str, Any]:
    """Of each column; of images each channel [channels, 1, 1] of values in 0 to 1, as LeRobot normalises them."""
    if values.ndim > 2:
        spread = values.reshape(-1, values.shape[-1])
        shape: tuple[int, ...] = (values.shape[-1], 1, 1)
        unit = 255.0
    else:
        spread, shape, unit = values, (values.shape[1],), 1.0
    found = {"min": spread.min(0), "max": spread.max(0)}
    found |= {"mean": spread.mean(0, dtype=np.float64), "std": spread.std(0, dtype=np.float64)}
    found |= {f"q{round(100 * q):02d}": np.quantile(spread, q, axis=0) for q in _QUANTILES}
    stated = {
        name: (value / unit if unit != 1.0 else value).reshape(shape).tolist()
        for name, value in found.items()
    }
    return {**stated, "count": [len(values)]}
