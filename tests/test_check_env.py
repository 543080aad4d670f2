"""What is said of an environment of the user's own: one sentence for each fault that was planted."""

from __future__ import annotations

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax import check_env
from mmbc_jax.core.errors import UserError
from mmbc_jax.core.registry import register
from mmbc_jax.envs.synthetic.landscape import Landscape, LandscapeOptions


def plugin(**methods):
    """A plug-in whose environment is the landscape with other methods, or with other fields of its spec."""
    spec = methods.pop("spec", {})
    made = type("Own", (Landscape,), methods)

    def build(options):
        env = made(options)
        env.spec = dataclasses.replace(env.spec, **spec)
        return env

    return register("env", LandscapeOptions)(build)


def after(change):
    """A step that changes what the landscape's returns."""
    return lambda self, state, action: change(Landscape.step(self, state, action))


def with_nan(state):
    return state.replace(obs=jnp.where(state.data["step"] > 3, state.obs.at[1].set(jnp.nan), state.obs))


def numpy_reset(self, key, params=None):
    state = Landscape.reset(self, key, params)
    return state.replace(obs=jnp.asarray(np.random.default_rng().normal(size=2), jnp.float32))


def bare_reset(self, key, params=None):
    state = Landscape.reset(self, key, params)
    return state.replace(info={}, metrics={})


FAULTS = {
    "numpy": (
        {
            "step": lambda self, state, action: Landscape.step(
                self, state, jnp.asarray(np.clip(np.asarray(action), -1, 1))
            )
        },
        [r"its step fails at .*test_check_env.py, line \d+: TracerArrayConversionError: .*use jax.numpy"],
    ),
    "missing": (
        {"reset": bare_reset},
        [
            r"with metrics\['success'\]",
            r"with info\['mode'\] and info\['params'\]",
        ],
    ),
    "a step": (
        {
            "step": after(
                lambda s: s.replace(
                    metrics={"success": s.done > 0},
                    info=s.info | {"mode": jnp.zeros(()), "more": jnp.zeros(2)},
                )
            )
        },
        [
            r"step must return a state whose metrics\['success'\] is a float without axes, not bool\[\]",
            r"step must return a state whose info\['mode'\] is an int32 without axes, not float32\[\]",
            r"step must return a state like that of reset: \.info\['more'\] is in that of step alone",
        ],
    ),
    "another step": (
        {"step": after(lambda s: s.replace(data={"a": jnp.zeros(2)}, info=s.info | {"b": jnp.zeros(2)}))},
        [
            r"\.data\['position'\] is in that of reset alone",
            r"\.data\['step'\] is in that of reset alone",
            r"\.data\['a'\] is in that of step alone",
            r"\.info\['b'\] is in that of step alone",
        ],
    ),
    "not finite": ({"step": after(with_nan)}, [r"obs state, column 1, is nan after step 4"]),
    "numpy.random": ({"reset": numpy_reset}, [r"reset is another program each time .*jax\.random"]),
    "modes": (
        {"step": after(lambda s: s.replace(info=s.info | {"mode": s.info["mode"] + 5}))},
        [r"info\['mode'\] is 4 .*must be -1 \(none\) to 3"],
    ),
    "success": (
        {"step": after(lambda s: s.replace(metrics={"success": -jnp.ones(())}))},
        [r"metrics\['success'\] is -1 .*must be 0 to 1"],
    ),
    "expert": (
        {"expert": lambda self, state, mode, key: -Landscape.expert(self, state, mode, key)},
        [r"the expert reaches mode NE, NW, SW, SE in 0.00 of 32 episodes"],
    ),
    "bounds": (
        {"spec": {"action_low": (0.1, 0.1), "action_high": (0.1, 0.2)}},
        [r"action_low must be below action_high; it is not for action 0"],
    ),
    "names": (
        {"spec": {"mode_names": ("a", "b")}},
        [r"spec.mode_names has 2 labels, must have num_modes = 4"],
    ),
    "position": ({"spec": {"position": (0, 7)}}, [r"spec.position is \(0, 7\)"]),
}
for _name, (_methods, _) in FAULTS.items():
    globals()[f"own_{_name.replace(' ', '_').replace('.', '_')}"] = plugin(**dict(_methods))


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_a_sentence(name, capsys):
    with jax.debug_key_reuse(False):
        code = check_env.main([f"{__name__}:own_{name.replace(' ', '_').replace('.', '_')}"])
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert code == 2
    assert out == "" or out.startswith("remark: ")
    assert len(lines) == len(FAULTS[name][1])
    for line, said in zip(lines, FAULTS[name][1], strict=True):
        assert re.search(said, line), line
        assert line.startswith("error: ")


def test_a_good_one_is_a_line(capsys):
    with jax.debug_key_reuse(False):
        assert check_env.main(["landscape"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert re.fullmatch(
        r"landscape: observes state \[2\], 2 actions, 16 steps, 4 modes, its expert reaches its mode in 1.00 to 1.00 "
        r"of the episodes, [\d,]+ control steps/s in a batch of 256\n",
        out,
    )


fixed = plugin(reset=lambda self, key, params=None: Landscape.reset(self, jax.random.key(0), params))


def test_starts_that_never_vary_are_remarked(capsys):
    with jax.debug_key_reuse(False):
        assert check_env.main([f"{__name__}:fixed"]) == 0
    assert capsys.readouterr().out.startswith("remark: every reset gives the same observation")


@pytest.mark.parametrize(
    "argv", [["nonesuch"], ["no.module:env"], ["landscape", "--config.env.rewards=3"], []]
)
def test_what_cannot_be_checked(argv):
    with pytest.raises(UserError):
        check_env.main(argv)
