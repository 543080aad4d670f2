"""Small LeRobotDatasets of versions 2.1 and 3.0, written column by column from the published layout."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

FPS = 10
LENGTHS = (4, 3, 5)
RNG = np.random.default_rng(0)
STATE = RNG.normal(size=(12, 3)).astype(np.float32)
ACTION = RNG.normal(size=(12, 2)).astype(np.float32)
GRIP = RNG.normal(size=(12,)).astype(np.float32)
IMAGE = RNG.integers(0, 256, size=(12, 16, 24, 3), dtype=np.uint8)
ENDS = np.cumsum(LENGTHS)
EPISODE = np.repeat(np.arange(3), LENGTHS)
FRAME = np.concatenate([np.arange(length) for length in LENGTHS])
FEATURES = {
    "observation.state": {"dtype": "float32", "shape": [3], "names": None},
    "observation.grip": {"dtype": "float32", "shape": [1], "names": None},
    "observation.images.top": {
        "dtype": "image",
        "shape": [16, 24, 3],
        "names": ["height", "width", "channels"],
    },
    "action": {"dtype": "float32", "shape": [2], "names": None},
    "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    "frame_index": {"dtype": "int64", "shape": [1], "names": None},
    "episode_index": {"dtype": "int64", "shape": [1], "names": None},
    "index": {"dtype": "int64", "shape": [1], "names": None},
    "task_index": {"dtype": "int64", "shape": [1], "names": None},
}
VIDEO = {
    "dtype": "video",
    "shape": [16, 24, 3],
    "names": ["height", "width", "channels"],
    "info": {"video.fps": FPS},
}


def png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def columns(rows: np.ndarray) -> dict:
    import pyarrow as pa

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return {
        "observation.state": pa.array(list(STATE[rows]), pa.list_(pa.float32(), 3)),
        "observation.grip": pa.array(GRIP[rows]),
        "observation.images.top": pa.array(
            [{"bytes": png(IMAGE[i]), "path": f"{i}.png"} for i in rows], image
        ),
        "action": pa.array(list(ACTION[rows]), pa.list_(pa.float32())),
        "timestamp": pa.array((FRAME[rows] / FPS).astype(np.float32)),
        "frame_index": pa.array(FRAME[rows]),
        "episode_index": pa.array(EPISODE[rows]),
        "index": pa.array(rows),
        "task_index": pa.array(np.zeros(len(rows), np.int64)),
    }


def write_table(path: Path, content: dict, row_group_size: int | None = None) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(content), path, row_group_size=row_group_size)


def write_video(path: Path, images: np.ndarray) -> None:
    """Without loss, so that frames can be compared."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264rgb", rate=FPS, options={"crf": "0", "preset": "ultrafast", "bf": "0"}
        )
        stream.height, stream.width, stream.pix_fmt = 16, 24, "rgb24"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def info(folder: Path, version: str, video: bool, **changes: object) -> None:
    paths = {
        "v2.1": (
            "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
            "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        ),
        "v3.0": (
            "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        ),
    }[version]
    said = {
        "codebase_version": version,
        "robot_type": "none",
        "total_episodes": 3,
        "total_frames": 12,
        "total_tasks": 1,
        "chunks_size": 1000,
        "fps": FPS,
        "splits": {"train": "0:3"},
        "data_path": paths[0],
        "video_path": paths[1],
        "features": FEATURES | ({"observation.images.side": VIDEO} if video else {}),
    }
    (folder / "meta").mkdir(parents=True, exist_ok=True)
    (folder / "meta/info.json").write_text(json.dumps(said | changes))


def version_2(folder: Path, video: bool = False, **changes: object) -> Path:
    info(folder, "v2.1", video, **changes)
    lines = [{"episode_index": i, "tasks": ["go"], "length": length} for i, length in enumerate(LENGTHS)]
    (folder / "meta/episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "meta/tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": "go"}) + "\n")
    for i in range(3):
        rows = np.flatnonzero(i == EPISODE)
        write_table(folder / f"data/chunk-000/episode_{i:06d}.parquet", columns(rows))
        if video:
            write_video(folder / f"videos/chunk-000/observation.images.side/episode_{i:06d}.mp4", IMAGE[rows])
    return folder


def version_3(folder: Path, video: bool = False, **changes: object) -> Path:
    """Episodes 0 and 1 in one file of small row groups, 2 in another; all in one video."""
    import pyarrow as pa

    info(folder, "v3.0", video, **changes)
    files = np.array([0, 0, 1])
    for file in range(2):
        rows = np.flatnonzero(files[EPISODE] == file)
        write_table(folder / f"data/chunk-000/file-{file:03d}.parquet", columns(rows), row_group_size=2)
    starts = np.concatenate([[0], ENDS[:-1]])
    meta = {
        "episode_index": pa.array(np.arange(3)),
        "tasks": pa.array([["go"]] * 3),
        "length": pa.array(np.asarray(LENGTHS)),
        "data/chunk_index": pa.array(np.zeros(3, np.int64)),
        "data/file_index": pa.array(files),
        "dataset_from_index": pa.array(starts),
        "dataset_to_index": pa.array(ENDS),
    }
    if video:
        prefix = "videos/observation.images.side"
        meta |= {
            f"{prefix}/{name}": pa.array(np.zeros(3, np.int64)) for name in ("chunk_index", "file_index")
        }
        meta |= {
            f"{prefix}/from_timestamp": pa.array(starts / FPS),
            f"{prefix}/to_timestamp": pa.array(ENDS / FPS),
        }
        write_video(folder / "videos/observation.images.side/chunk-000/file-000.mp4", IMAGE)
    write_table(folder / "meta/episodes/chunk-000/file-000.parquet", meta)
    return folder


WRITERS = {"v2.1": version_2, "v3.0": version_3}
