r"""Two blocks, two targets, one disc: which block entered which target when, the label of that, and an expert.

Pairs are numbered 2 block + target. The label of a success is 2 c + o: c = 0 where block 0 lies in target 0 and block
1 in target 1, else 1; o = 0 where block 0 was in its own target first (or both at once), else 1.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.types import Array, PyTree, State

NEVER = np.iinfo(np.int32).max
_TINY = 1e-9


class Manner(NamedTuple):
    """How the expert goes about it, lengths in m.

    Attributes:
      clear: least distance of the disc's centre from that of a block that it goes round.
      apart: least distance between the centres of two blocks on the way of one of them.
      width: half width of the lane behind a block from which it is pushed.
      near: distance to the target below which a block is left alone.
      fast: displacement of a step where no block is near.
      slow: likewise where one is.
    """

    clear: float
    apart: float
    width: float
    near: float
    fast: float
    slow: float


def first_state(data: PyTree, obs: Array, params: PyTree) -> State:
    """The state that an episode begins with."""
    zero = jnp.zeros(())
    info = {"mode": jnp.full((), -1, jnp.int32), "params": params}
    return State(data, obs, zero, zero, {"success": zero, "inside": zero}, info)


def distances(blocks: Array, targets: Array) -> Array:
    """[4] m between the blocks [2, 3] and the targets [2, >= 2], by pair."""
    return jnp.sqrt(jnp.square(ways(blocks, targets)).sum(-1)).ravel()


def ways(blocks: Array, targets: Array) -> Array:
    """[2, 2, 2] m from block i to target j: [i, j] is x and y."""
    return targets[None, :, :2] - blocks[:, None, :2]


def outcome(entered: Array, inside: Array) -> tuple[Array, Array]:
    """Success [] bool and label [] int32, -1 without it, of steps [4] of first entries and who is inside [4] now."""
    straight, crossed = inside[0] & inside[3], inside[1] & inside[2]
    success = straight | crossed
    first = jnp.where(straight, entered[0] > entered[3], entered[1] > entered[2])
    label = 2 * (~straight).astype(jnp.int32) + first.astype(jnp.int32)
    return success, jnp.where(success, label, -1)


def direction(disc: Array, blocks: Array, targets: Array, mode: Array, manner: Manner) -> Array:
    """[2] m displacement of the disc that pursues a label: round the block to its far side, and push.

    The block is led straight to its target, or round the other block where that lies in the way. In the lane behind
    it the disc goes along the block's way and back to the middle of the lane; elsewhere to the lane, round both
    blocks. A function of what is observed alone.

    Args:
      disc: [2] m.
      blocks: [2, 3] m, rad.
      targets: [2, >= 2] m.
      mode: [] int32 in [0, 4).
      manner: see there.
    """
    crossed, second = mode // 2, mode % 2
    away = distances(blocks, targets)
    first_pair = 2 * second + (second ^ crossed)
    done = away[first_pair] < manner.near
    block = jnp.where(done, 1 - second, second)
    goal = targets[block ^ crossed, :2]
    own, other = blocks[block, :2], blocks[1 - block, :2]
    way = _around(own, goal, other, jnp.asarray(manner.apart))
    offset = disc - own
    behind = -(offset * way).sum()
    aside = way[0] * offset[1] - way[1] * offset[0]
    lane = own - (manner.clear + 0.25 * manner.width) * way
    # The block that is nearer hides the one behind it.
    to_own, to_other = (jnp.sqrt(jnp.square(disc - x).sum()) for x in (own, other))
    round_own = _around(disc, lane, own, jnp.asarray(manner.clear))
    round_other = _around(disc, lane, other, jnp.asarray(manner.clear))
    straight = _unit(lane - disc)
    hidden = (jnp.abs(round_other - straight).max() > 1e-6) & (to_other < to_own)
    approach = jnp.where(hidden, round_other, round_own)
    left = jnp.stack([-way[1], way[0]])
    pushing = _unit(way - (aside / manner.width) * left)
    in_lane = (behind > 0.0) & (jnp.abs(aside) < manner.width)
    heading = jnp.where(in_lane, pushing, approach)
    slow = jnp.minimum(to_own, to_other) < 1.3 * manner.clear
    return jnp.where(slow, manner.slow, manner.fast) * heading


def _around(start: Array, goal: Array, centre: Array, radius: Array) -> Array:
    """[2] unit heading from `start` to `goal` that leaves out a disc, along the tangent on the nearer side."""
    to_goal, to_centre = goal - start, centre - start
    straight, far = _unit(to_goal), jnp.sqrt(jnp.square(to_centre).sum())
    along = (to_centre * straight).sum()
    ahead = jnp.clip(along, 0.0, jnp.sqrt(jnp.square(to_goal).sum()))
    blocked = jnp.square(to_centre - ahead * straight).sum() < jnp.square(radius)
    cross = to_centre[0] * straight[1] - to_centre[1] * straight[0]
    side = jnp.where(cross < 0.0, -1.0, 1.0)
    inward = to_centre / jnp.maximum(far, _TINY)
    left = side * jnp.stack([-inward[1], inward[0]])
    # Of the tangent: sin = radius / far; within the disc outwards by as much as it is too deep.
    sine = jnp.clip(radius / jnp.maximum(far, _TINY), 0.0, 1.0)
    deep = jnp.clip(radius / jnp.maximum(far, _TINY) - 1.0, 0.0, 1.0) * 4.0
    tangent = jnp.sqrt(1.0 - jnp.square(sine)) * inward + sine * left - deep * inward
    return jnp.where(blocked & (along > 0.0), _unit(tangent), straight)


def _unit(x: Array) -> Array:
    return x / jnp.maximum(jnp.sqrt(jnp.square(x).sum()), _TINY)
