"""Where a batch is said to be one: the compiled epoch decides whether, and over which devices, it is spread.

A step that gathers a batch from arrays that every device holds gives the compiler no reason to divide the work on it.
`spread` names the batch axis at that place; nothing about devices is chosen there.
"""

from __future__ import annotations

import jax
from jax.sharding import PartitionSpec

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.types import PyTree

BATCH_AXIS = "batch"


def spread(tree: PyTree, axis: int = 0) -> PyTree:
    """The tree with dimension `axis` of every leaf divided over the mesh axis `batch`.

    The mesh is that of the program in which this is traced; without one, or without several devices on that axis,
    the tree is returned as it is.

    Args:
      tree: leaves with a batch of one size at dimension `axis`: windows, environments, drawn transitions.
      axis: >= 0, of one run; the axis of runs does not count.

    Raises:
      ConfigError: the devices do not divide the batch.
    """
    mesh = jax.sharding.get_abstract_mesh()
    devices = 1 if mesh.empty else dict(mesh.shape).get(BATCH_AXIS, 1)
    if devices == 1:
        return tree
    rows = {leaf.shape[axis] for leaf in jax.tree.leaves(tree)}
    for count in rows:
        if count % devices:
            raise ConfigError("mesh.batch", devices, f"a divisor of the {count} rows of a batch")
    spec = PartitionSpec(*[None] * axis, BATCH_AXIS)
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, spec), tree)
