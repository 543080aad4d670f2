"""An environment that breaks, begins done or succeeds in passing, where its parameters say so."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from mmbc_jax.core.types import EnvSpec, State

LENGTH = 6
NEVER = 99


class Fragile:
    """It observes (t, 0), pays 1 a step and succeeds at the end, after `LENGTH` steps.

    Parameters: `when` [] int32, the step after which `what` is `bad`; `over` [] float, 1 where episodes begin done
    and successful; `passing` [] int32, the step after which alone the metric "success" is 1, `NEVER` for at the end.

    Args:
      what: "data", "obs", "reward", "done", "success" or "reset".
      bad: what it becomes.
      latched: see `EnvSpec`.
    """

    def __init__(self, what: str = "data", bad: float = float("nan"), latched: bool = False):
        self.what, self.bad = what, bad
        self.spec = dataclasses.replace(
            EnvSpec("fragile", 2, 1, LENGTH, 2, (-1.0,), (1.0,), position=(0, 1)), latched=latched
        )

    def default_params(self):
        return params()

    def reset(self, key, params=None):
        params = self.default_params() if params is None else params
        broken = (self.what == "reset") & (params["when"] == 0)
        return State(
            data={"t": jnp.zeros((), jnp.int32), "held": jnp.where(broken, self.bad, 0.0), "key": key},
            obs=jnp.stack([jnp.where(broken, self.bad, 0.0), jnp.zeros(())]),
            reward=jnp.zeros(()),
            done=params["over"],
            metrics={"success": params["over"], "t": jnp.zeros(())},
            info={"mode": jnp.where(params["over"] > 0, 1, -1).astype(jnp.int32), "params": params},
        )

    def step(self, state, action):
        p, t = state.info["params"], state.data["t"] + 1

        def spoilt(name, value):
            return jnp.where((self.what == name) & (t == p["when"]), self.bad, value)

        end = (t >= LENGTH).astype(jnp.float32)
        success = jnp.where(p["passing"] == NEVER, end, (t == p["passing"]).astype(jnp.float32))
        return state.replace(
            data={**state.data, "t": t, "held": spoilt("data", state.data["held"])},
            obs=jnp.stack([spoilt("obs", t.astype(jnp.float32)), jnp.zeros(())]),
            reward=spoilt("reward", jnp.ones(())),
            done=spoilt("done", end),
            metrics={"success": spoilt("success", success), "t": t.astype(jnp.float32)},
            info={**state.info, "mode": jnp.where(success > 0, 1, -1).astype(jnp.int32)},
        )


def params(when: int = NEVER, over: float = 0.0, passing: int = NEVER):
    """Parameters of one instance."""
    return {
        "when": jnp.asarray(when, jnp.int32),
        "over": jnp.asarray(over),
        "passing": jnp.asarray(passing, jnp.int32),
    }


def several(*each: dict[str, float]):
    """Parameters of one instance for each of the given changes."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(params(**changes) for changes in each))
