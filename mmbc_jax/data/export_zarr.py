"""Episodes as a Zarr store in the layout of Diffusion Policy's replay buffers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmbc_jax.core.extras import imported
from mmbc_jax.data.episodes import Episodes

_ROWS, _IMAGES = 4096, 64  # of a chunk: rows of numbers, images


def write_zarr(episodes: Episodes, folder: Path) -> None:
    """Writes `data/<entry>`, `data/action`, `meta/episode_ends`; of labels `meta/mode` and `meta/num_modes`.

    Zarr format 2, which every version of Diffusion Policy reads. A plain observation is `data/state`.

    Args:
      episodes: physical units.
      folder: the store, which is made.

    Raises:
      UserError: the package zarr is not installed.
    """
    zarr = imported("zarr", "data", f"{folder}: writing Zarr stores")
    root = zarr.open_group(str(folder), mode="w", zarr_format=2)
    arrays = {
        f"data/{'state' if name == 'obs' else name}": values for name, values in episodes.entries.items()
    }
    arrays |= {"data/action": episodes.action, "meta/episode_ends": episodes.ends}
    if episodes.mode is not None:
        arrays |= {"meta/mode": episodes.mode, "meta/num_modes": np.asarray(episodes.num_modes)}
    for name, values in arrays.items():
        rows = _IMAGES if values.ndim > 2 else _ROWS
        chunks = (min(rows, len(values)), *values.shape[1:]) if values.ndim else ()
        root.create_array(name, shape=values.shape, dtype=values.dtype, chunks=chunks)[...] = values
