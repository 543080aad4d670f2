r"""The task `avoiding`, whatever holds the rod: rules, labels, expert and picture (D3IL, Jia et al. 2024).

What moves the rod in a control step, and finds how near it comes to the obstacles, is a `Holder`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.keys import wrapped
from mmbc_jax.core.observations import ObsSpec
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.types import Array, EnvSpec, Key, PyTree, State
from mmbc_jax.envs._block import BLOCK, check_block, draw_block, gap
from mmbc_jax.envs._further import Further, differs, parameters
from mmbc_jax.ops.unrolled import unrolled

MAX_STEP = 0.01
START = (0.52492845, -0.27973673)
FINISH_Y, REWARD_Y = 0.35, 0.4
LENGTH = {"d3il": 250, "dppo": 100}
NAMES = tuple(f"{a}-{b}-{c}" for a in "LR" for b in range(1, 4) for c in range(1, 5))
SPLITS = ((0.5,), (0.425, 0.575), (0.35, 0.5, 0.65))
# The expert: gap centres of the rows, the stretches of y in which it changes lanes, command speed per axis.
LANES = ((0.44, 0.56), (0.37, 0.5, 0.63), (0.3, 0.425, 0.575, 0.7))
CHANGES = ((-0.3, -0.15), (-0.08, 0.05), (0.1, 0.23))
SPEED = {"d3il": 0.008, "dppo": 0.0098}
PULL = 100.0
STOP_Y = 0.43


@dataclasses.dataclass(frozen=True, kw_only=True)
class AvoidingTaskOptions(Options):
    """Options of the task, whatever holds the rod."""

    rules: str = option("d3il", "of the episode's end and the reward", choices=tuple(LENGTH))
    success_reward: float = option(1.0, "what success pays")
    right_share: float = option(1.0, "of it, what is paid to the right of the first row's obstacle", low=0.0)
    start_noise: float = option(0.0, "standard deviation of the start [m]", low=0.0)
    action_noise: float = option(0.0, "standard deviation of the action, 1 is 1 cm", low=0.0)
    obs_noise: float = option(0.0, "standard deviation of the measured position [m]", low=0.0)
    block_x: float = option(
        0.5, "centre of one more obstacle [m]; by default in the middle of the second row"
    )
    block_y: float = option(0.08, "likewise")
    block_radius: float = option(0.0, "of that obstacle [m]; 0 for none", low=0.0)

    def check(self) -> None:
        """Raises ConfigError where a block is placed that is none."""
        check_block(self, type(self)())


class Holder(Protocol):
    """What holds the rod; its states have `position` [2] m and `distance` [O], the gap to each obstacle in m.

    Attributes:
      dt: length of a control step [s].
      radius: of the rod [m].
      dynamics: the named tuple of its other dynamics, whose fields are options and parameters of the task.
    """

    dt: float
    radius: float
    dynamics: type[Any]

    @property
    def obstacles(self) -> np.ndarray:
        """[O, 3] centre x, y and radius in m."""
        ...

    def at_rest(self, position: Array) -> Any:
        """The state that stands still at a position [2] m."""
        ...

    def step(self, rod: Any, command: Array, new_command: Array, dynamics: Any = None) -> Any:
        """One control step, in which the command [2] m moves; under other dynamics where they are given."""
        ...


class Avoiding(Further):
    """See the module docstring, and those of the plug-ins.

    `State.data`: command [2] m, rod (a state of the holder), rows [3] int32 (slot passed, -1 before), hit and
    finished [] bool, step [] int32, noise_key [2] uint32.

    Args:
      options: those of the task, and of the dynamics that the holder has.
      rod: what holds the rod.
      serial_chain: whether that is an arm (`EnvSpec.serial_chain`).
    """

    def __init__(self, options: AvoidingTaskOptions, rod: Holder, serial_chain: bool = False):
        self.options, self.rod, self._dynamics = options, rod, rod.dynamics
        self._further = (*rod.dynamics._fields, *BLOCK)
        self.further = differs(options, self._further)
        self.spec = EnvSpec(
            name=options.name,
            obs_dim=4,
            action_dim=2,
            episode_length=LENGTH[options.rules],
            num_modes=len(NAMES),
            action_low=(-MAX_STEP, -MAX_STEP),
            action_high=(MAX_STEP, MAX_STEP),
            mode_names=NAMES,
            position=(2, 3),
            displaced=((0, 2), (1, 3)),
            control_dt=self.rod.dt,
            obs=ObsSpec.vector(4),  # unbounded: nothing keeps the command in the scene
            serial_chain=serial_chain,
        )

    def default_params(self) -> PyTree:
        """All []: success_reward, right_share; start_, obs_noise [m], action_noise [1 = 1 cm]; of `perturbed`."""
        own = ("success_reward", "right_share", "start_noise", "action_noise", "obs_noise")
        return parameters(self.options, (*own, *(self._further * self.further)))

    def reset(self, key: Key, params: PyTree | None = None) -> State:
        """At rest at the start, moved by N(0, start_noise^2)."""
        params = self.default_params() if params is None else params
        start_key, noise_key = jax.random.split(key)
        start = jnp.asarray(START) + params["start_noise"] * jax.random.normal(start_key, (2,))
        return self._begin(jnp.concatenate([start, start]), noise_key, params)

    def reset_to(self, obs: Array, key: Key, params: PyTree | None = None) -> State:
        """At rest at the measured position of `obs` [4], with its command; `key` feeds the noises."""
        return self._begin(obs, key, self.default_params() if params is None else params)

    def _begin(self, obs: Array, key: Key, params: PyTree) -> State:
        no = jnp.zeros((), bool)
        return State(
            data={
                "command": obs[:2],
                "rod": self.rod.at_rest(obs[2:]),
                "rows": jnp.full((3,), -1, jnp.int32),
                "hit": no,
                "finished": no,
                "step": jnp.zeros((), jnp.int32),
                "noise_key": jax.random.key_data(key),
            },
            obs=obs,
            reward=jnp.zeros(()),
            done=jnp.zeros(()),
            metrics={"success": jnp.zeros(()), "contact": jnp.zeros(())},
            info={"mode": jnp.full((), -1, jnp.int32), "params": params},
        )

    def step(self, state: State, action: Array) -> State:
        """One control step of 35 ms with `action` [2], clipped to [-1, 1] after the action noise."""
        data, params = state.data, state.info["params"]
        key = unrolled(wrapped(data["noise_key"]))
        key = jax.random.fold_in(key, data["step"])
        noise = jax.random.normal(key, (4,))
        action = jnp.clip(action + params["action_noise"] * noise[:2], -1.0, 1.0)
        command = data["command"] + MAX_STEP * action
        dynamics = self._dynamics(*map(params.get, self._dynamics._fields)) if self.further else None
        rod = self.rod.step(data["rod"], data["command"], command, dynamics)
        x, y = rod.position
        rows = jnp.where(data["rows"] < 0, _crossings(x, y), data["rows"])
        hit = data["hit"] | (rod.distance.min() < 0.0)
        if self.further:
            hit |= gap(params, data["rod"].position, rod.position) < self.rod.radius
        finished = data["finished"] | (y > FINISH_Y)
        success = finished & ~hit
        paid = params["success_reward"] * jnp.where(rows[0] == 1, params["right_share"], 1.0)
        if self.options.rules == "d3il":
            reward, done = paid * success, finished | hit
        else:
            outside = (x < 0.2) | (x > 0.8)
            reward = paid * (y > REWARD_Y) - 0.1 * hit - 0.1 * outside
            done = jnp.zeros((), bool)
        moved = {"command": command, "rod": rod, "rows": rows, "hit": hit, "finished": finished}
        return state.replace(
            data={**data, **moved, "step": data["step"] + 1},
            obs=jnp.concatenate([command, rod.position + params["obs_noise"] * noise[2:]]),
            reward=jnp.asarray(reward, jnp.float32),
            done=done.astype(jnp.float32),
            metrics={"success": success.astype(jnp.float32), "contact": hit.astype(jnp.float32)},
            info=state.info | {"mode": jnp.where(success, _code(rows), -1)},
        )

    def expert(self, state: State, mode: Array, key: Key) -> Array:
        """Leads the command along a smooth lane through the gaps of `mode`; stops past the finish.

        The lane x*(y) changes between gap centres by smoothsteps, so modes that share gaps share the way.
        The direction (dx*/dy + PULL (x* - x), 1) is scaled to a constant speed of its larger component.

        Args:
          state: the current state; only its command is used.
          mode: [] int32 in [0, 24).
          key: unused; this expert is deterministic.

        Returns:
          [2] action in [-1, 1].
        """
        del key
        x, y = state.data["command"]
        lane, slope = _lane(y, mode)
        direction = jnp.stack([slope + PULL * (lane - x), jnp.ones(())])
        speed = SPEED[self.options.rules] / MAX_STEP * (y < STOP_Y)
        return speed * direction / jnp.abs(direction).max()

    def label(self, path: Array) -> Array:
        """The row-crossing code of a path of measured positions [T, 2]: [] int32, -1 if it misses a row."""
        crossed = jax.vmap(_crossings)(path[:, 0], path[:, 1])
        rows = jnp.take_along_axis(crossed, (crossed >= 0).argmax(0)[None], axis=0)[0]
        return _code(rows)

    def draw(self, ax: Any) -> None:
        """Obstacles at their own radius (the rod adds 0.01), start and finish line, in m."""
        from matplotlib.patches import Circle

        for x, y, radius in self.rod.obstacles:
            ax.add_patch(Circle((x, y), radius, color="0.35", zorder=1))
        draw_block(ax, self.options)
        ax.axhline(FINISH_Y, color="tab:green", lw=1.5, zorder=0)
        ax.plot(*START, marker="s", ms=5, color="k", zorder=1)
        ax.set(xlim=(0.18, 0.82), ylim=(-0.31, 0.42), aspect="equal", xlabel="x [m]", ylabel="y [m]")


def _crossings(x: Array, y: Array) -> Array:
    """[3] int32 slot of each row that (x, y) is crossing, -1 for the others."""
    slots = jnp.stack([(x > jnp.asarray(split)).sum() for split in SPLITS]).astype(jnp.int32)
    here = jnp.stack([jnp.abs(y + 0.1) <= 0.03, jnp.abs(y - 0.08) <= 0.03, y >= 0.26])
    return jnp.where(here, slots, -1)


def _code(rows: Array) -> Array:
    """12 L1 + 4 L2 + L3 of rows [3], -1 while one is open."""
    return jnp.where((rows >= 0).all(), 12 * rows[0] + 4 * rows[1] + rows[2], -1)


def _lane(y: Array, mode: Array) -> tuple[Array, Array]:
    """x of the expert's lane at y, and its slope dx/dy."""
    slots = (mode // 12, mode // 4 % 3, mode % 4)
    goals = [
        jnp.asarray(START[0]),
        *(jnp.asarray(row)[slot] for row, slot in zip(LANES, slots, strict=True)),
    ]
    lane, slope = goals[0], jnp.zeros(())
    for (low, high), here, there in zip(CHANGES, goals[:-1], goals[1:], strict=True):
        u = jnp.clip((y - low) / (high - low), 0.0, 1.0)
        lane = lane + (there - here) * u * u * (3.0 - 2.0 * u)
        slope = slope + (there - here) * 6.0 * u * (1.0 - u) / (high - low)
    return lane, slope
