"""Every plug-in with every option of another kind: it trains, or is refused in one line that names the field.

On abstract shapes: nothing is computed. A combination trains where two steps in a row give a state of the same
shapes, and its episodes can be played.
"""

from __future__ import annotations

import functools
import itertools

import jax
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import apply_overrides, plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.runs import setup as setup_lib
from mmbc_jax.runs.grid import config_grid
from mmbc_jax.runs.stages import make_stages
from mmbc_jax.runs.templates import dummy_shared, likely_own_scale
from tests.toys.landscape import toy_config, unchecked
from tests.toys.products import spared

CLONE, TUNE = ("bc",), ("bc", "discover", "finetune", "plain")
AXES = {
    "policy.name": registry.available("policy"),
    "prior.name": registry.available("prior"),
    "sampler.name": registry.available("sampler"),
    "policy.backbone": ("mlp", "transformer", "unet"),
    "chunk.coordinates": ("actions", "path", "whitened"),
    "chunk.observe": (1, 2),
    "data.scale": ("box", "data"),
    "env.observe": ("state", "image", "both"),
    "actor.name": registry.available("actor"),
    "learner.name": ("ppo", "sac"),
    "reward.name": registry.available("reward"),
    "discriminator.input": ("state", "window", "history", "action", "final"),
    "finetune.num_modes": (1, 4),
    "sweep.mode": ("vmap", "map"),
    "precision": ("fp32", "bf16"),
}
REFUSED_BY_SAC = {"cfm_ratio", "denoise", "flow_sde", "full"}
TUNING = {"actor.name", "learner.name", "reward.name", "discriminator.input", "finetune.num_modes"}
NETWORK = {"hidden": (8,), "width": 8, "depth": 1, "heads": 2, "channels": (8,), "time_dim": 4}


def pairs():
    """One choice on each of two axes; a few of each sort are quick, the rest is slow: probes train most of them."""
    for (a, choices), (b, others) in itertools.combinations(AXES.items(), 2):
        tuned = bool({a, b} & TUNING)
        for one, other in itertools.product(choices, others):
            fast = a == "policy.name" and other == "categorical"
            fast = fast or {one, other} in ({"data", "residual"}, {"sac", "steer"})
            fast = fast or ("sac" in (one, other) and {one, other} & REFUSED_BY_SAC)
            marks = [] if fast else [pytest.mark.slow]
            yield pytest.param(
                {a: one, b: other}, TUNE if tuned else CLONE, marks=marks, id=f"{one}-{b}={other}"
            )


def small(config, chosen):
    """The toy on a task with images, at the smallest widths that each plug-in has."""
    config.env = plugin("env", "radial", num_modes=2)
    names = {key: value for key, value in chosen.items() if key.endswith(".name")}
    apply_overrides(config, [(key, str(value)) for key, value in names.items()])
    for section in ("policy", "prior", "actor", "discriminator", "learner"):
        for field, value in NETWORK.items():
            if field in config[section]:
                config[section][field] = value
    config.learner.update({"iterations_per_epoch": 1, "num_envs": 4, "decisions": 2})
    rest = {}
    for key, value in chosen.items():
        section, _, field = key.rpartition(".")
        if key not in names and field in (config[section] if section else config):
            rest[key] = value
    apply_overrides(config, [(key, str(value)) for key, value in rest.items()])
    return config


def shapes(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def train_abstractly(setup, names):
    """Two training steps and an evaluation of every stage."""
    shared, grid = dummy_shared(setup, likely_own_scale(setup)), config_grid(setup.config)
    states = {}
    for name, stage in make_stages(setup, names).items():
        stage.check()
        hp = stage.make_hparams(grid, stage.runs(grid))
        parent = states[stage.parent.name] if stage.parent else None
        states[name] = stage.template(hp, parent, shared)
        one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), states[name])
        after, metrics = jax.eval_shape(stage.train_step, one, shared)
        again, same = jax.eval_shape(stage.train_step, after, shared)
        assert shapes(one) == shapes(after) == shapes(again)
        assert shapes(metrics) == shapes(same)
        assert all(leaf.shape == () for leaf in metrics.values())
        keys = jax.eval_shape(lambda: jax.random.key(0))
        subject = jax.eval_shape(stage.subject, one, keys)
        rollouts = jax.eval_shape(functools.partial(stage.evaluator().run, env_params=None), subject)
        assert rollouts.success.shape == (setup.config.evaluation.episodes,)


def refusal(chosen, stages) -> ConfigError | None:
    """The error that a combination is refused with; None where it trains."""
    config = small(toy_config(stages=",".join(stages), seeds=1), chosen)
    try:
        setup = setup_lib.build(config)
        with unchecked():
            train_abstractly(setup, stages)
    except ConfigError as error:
        return error
    return None


@pytest.mark.parametrize(("chosen", "stages"), pairs())
@spared("steer-learner.name=sac", "data-actor.name=residual")
def test_it_trains_or_is_refused(chosen, stages):
    error = refusal(chosen, stages)
    if error is not None:
        sections = {key.split(".")[0] for key in chosen} | {"sampler", "prior", "policy", "env", "actor"}
        assert error.field.split(".")[0] in sections, error
        assert "\n" not in str(error)
        assert error.allowed
