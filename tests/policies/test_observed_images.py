"""Every policy with observations that hold an image, beside a vector or alone; jitted and vmapped."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.observations import ObsEntry, ObsSpec
from mmbc_jax.core.types import Batch, PolicySpec
from mmbc_jax.nn.backbone import BACKBONES
from mmbc_jax.nn.obs_encoder import ObsEncoder
from tests.toys.landscape import unchecked
from tests.toys.products import spared, sparing

IMAGE = ObsEntry((16, 16, 3), "image")
SPECS = {
    "both": PolicySpec(3, 2, 4, ObsSpec.of({"state": ObsEntry((3,)), "image": IMAGE})),
    "image": PolicySpec(0, 2, 4, ObsSpec.of({"image": IMAGE})),
}
SIZE = 4
SMALL = {
    "hidden": (8,),
    "width": 8,
    "depth": 1,
    "heads": 2,
    "channels": (8,),
    "image_channels": (4,),
    "image_features": 6,
    "fourier_octaves": 1,
    "num_components": 3,
    "num_bins": 3,
    "num_codes": 3,
    "base_hidden": (8,),
    "steps": 3,
    "refine_steps": 2,
    "negatives": 4,
}


class Case(NamedTuple):
    policy: str
    observed: str
    backbone: str = "mlp"


NAMES = sorted(registry.available("policy"))
CASES = [Case(name, observed) for name in NAMES for observed in SPECS]
CASES += [Case("flow", "both", backbone) for backbone in BACKBONES if backbone != "mlp"]
CASES += [Case("cvae", "both", backbone) for backbone in BACKBONES if backbone != "mlp"]


def name_of(case: Case) -> str:
    return "-".join(case)


@functools.cache
def make(case: Case, **fields):
    spec = SPECS[case.observed]
    prior = functools.partial(registry.build, "prior", plugin("prior", "normal"), spec=spec)
    sampler = registry.build("sampler", plugin("sampler", "euler", steps=3))
    cfg = plugin("policy", case.policy)
    chosen = {**SMALL, "backbone": case.backbone, **fields}
    cfg.update({field: value for field, value in chosen.items() if field in cfg})
    return registry.build("policy", cfg, spec, prior=prior, sampler=sampler)


def hparams(case: Case) -> dict:
    cfg = plugin("policy", case.policy)
    return {field: jnp.asarray(cfg[field]) for field in registry.find("policy", case.policy).hparams}


def observations(observed: str, *batch: int):
    rng = np.random.default_rng(0)
    made = {"image": jnp.asarray(rng.integers(0, 256, (*batch, *IMAGE.shape)), jnp.uint8)}
    if observed == "both":
        made["state"] = jnp.asarray(rng.uniform(-1, 1, (*batch, 3)), jnp.float32)
    return made


def batch(observed: str) -> Batch:
    chunk = np.random.default_rng(1).uniform(-0.8, 0.8, (SIZE, 4, 2)).astype(np.float32)
    return Batch(observations(observed, SIZE), jnp.asarray(chunk), jnp.ones((SIZE, 4)).at[0, 2:].set(0.0))


def moved(params, key):
    """Parameters off their zeros, so that everything matters."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    return tree.unflatten(
        [p + 0.1 * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)]
    )


def live(case: Case, key, data: Batch):
    """(loss per example, its gradient, chunks) of fresh variables."""
    policy = make(case)
    key_init, key_moved, key_loss, key_w = jax.random.split(key, 4)
    v = policy.init(key_init, data)
    v = v.replace(params=moved(v.params, key_moved))

    def total(params):
        loss = policy.loss(v.replace(params=params), key_loss, data, hparams(case))
        return loss.total(), loss.per_example

    gradient, per_example = jax.grad(total, has_aux=True)(v.params)
    w = policy.base_distribution(v, data.obs).sample(seed=key_w)
    return per_example, gradient, policy.transport(v, data.obs, w)


def timed(case: Case):
    """Slow where another case stands for it: images alone, other backbones, families of one kind."""
    alike = (
        *("bet", "cvae", "diffusion", "gaussian", "latent_flow", "mdn", "mean_flow"),
        *("ibc", "mixture_flow", "vq", "wae"),
    )
    quick = case.observed == "both" and case.backbone == "mlp" and case.policy not in alike
    return pytest.param(case, id=name_of(case), marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize("case", [timed(case) for case in CASES])
@spared("flow-both-mlp")
def test_two_runs_at_once_learn_from_images(case):
    data = batch(case.observed)
    run = jax.jit(jax.vmap(functools.partial(live, case, data=data)))
    with unchecked():
        per_example, gradient, chunk = run(jax.random.split(jax.random.key(0), 2))
    assert per_example.shape == (2, SIZE)
    assert chunk.shape == (2, SIZE, 4, 2)
    assert np.isfinite(per_example).all()
    assert np.isfinite(chunk).all()
    assert np.abs(chunk[0] - chunk[1]).max() > 0
    found = jax.tree_util.tree_leaves_with_path(gradient)
    assert all(np.isfinite(leaf).all() for _, leaf in found)
    encoders = [np.abs(leaf).max() for path, leaf in found if "stem" in jax.tree_util.keystr(path)]
    assert encoders
    assert max(encoders) > 0


@pytest.mark.slow
def test_two_runs_at_once_are_the_two_alone():
    data, keys = batch("both"), jax.random.split(jax.random.key(0), 2)
    run = functools.partial(live, Case("flow", "both"), data=data)
    with unchecked():
        together = jax.jit(jax.vmap(run))(jax.random.clone(keys))
    alone = jax.jit(run)(keys[1])
    jax.tree.map(
        lambda one, both: np.testing.assert_allclose(both[1], one, rtol=1e-3, atol=1e-3), alone, together
    )


@pytest.mark.parametrize("lead", sparing([(), (2, 3)], slow=("()",)))
@pytest.mark.parametrize("case", CASES, ids=name_of)
@spared("*-image-*", "latent_flow-*", "mixture_flow-*", "cvae-*")
def test_sample_shapes_for_any_leading_dims(case, lead):
    policy, obs = make(case), observations(case.observed, *lead)

    def draw(key):
        key_init, key_w = jax.random.split(key)
        v = policy.init(key_init, batch(case.observed))
        base = policy.base_distribution(v, obs)
        w = base.sample(seed=key_w)
        return policy.transport(v, obs, w), base.log_prob(w)

    chunk, log_prob = jax.eval_shape(draw, jax.random.key(0))
    assert chunk.shape == (*lead, 4, 2)
    assert log_prob.shape == lead


@pytest.mark.parametrize("name", NAMES)
@spared("latent_flow", "mixture_flow", "mdn", "vq")
def test_a_sample_encodes_the_image_once(name):
    policy, obs = make(Case(name, "both")), observations("both", 2)
    v = jax.eval_shape(policy.init, jax.random.key(0), batch("both"))
    w = jax.eval_shape(lambda v: policy.base_distribution(v, obs).sample(seed=jax.random.key(1)), v)
    encoder = ObsEncoder(policy.spec.obs, 1, SMALL["image_channels"], SMALL["image_features"])
    networks = 2 if name == "mixture_flow" else 1  # the base's own and the flow's
    assert convolutions(policy.transport, v, obs, w) == networks * convolutions(
        encoder.init_with_output, jax.random.key(0), obs
    )


def convolutions(f, *arguments) -> int:
    """Convolutions in a program; one in the body of a loop counts once, one of an unrolled loop each time."""
    return str(jax.make_jaxpr(f)(*arguments)).count("conv_general_dilated[")


def test_a_loop_does_not_encode_the_image_again():
    policy, obs = make(Case("flow", "both")), observations("both", 2)
    v = jax.eval_shape(policy.init, jax.random.key(0), batch("both"))
    code = jax.make_jaxpr(policy.transport)(v, obs, jnp.zeros((2, 4, 2)))
    loops = [step for step in code.eqns if step.primitive.name == "scan"]
    assert loops
    assert not any("conv_general_dilated" in str(loop) for loop in loops)


@pytest.mark.parametrize(
    ("case", "fields", "found"),
    [
        (
            Case("flow", "image"),
            {"coupling": "ot"},
            "config.env.observe = 'image' .*policy.ot_obs_weight = 0",
        ),
        (Case("wae", "image"), {"conditional": True}, "config.env.observe = 'image' .*policy.conditional"),
        (Case("mse", "both"), {"image_channels": (6,)}, "config.policy.image_channels .*multiples of 4"),
        (Case("mse", "both"), {"image_features": 0}, "config.policy.image_features"),
    ],
)
def test_what_needs_a_vector_is_refused_without_one(case, fields, found):
    with pytest.raises(ConfigError, match=found):
        make.__wrapped__(case, **fields)


def test_a_coupling_without_weight_on_observations_needs_no_vector():
    case = Case("flow", "image")
    policy, data = make(case, coupling="ot", ot_obs_weight=0.0), batch("image")
    v = jax.jit(policy.init)(jax.random.key(0), data)
    hp = {"ot_obs_weight": jnp.zeros(())}
    assert np.isfinite(jax.jit(policy.loss)(v, jax.random.key(1), data, hp).per_example).all()


def test_noise_on_observations_leaves_images_alone():
    policy, obs = make(Case("mixture_flow", "both"), obs_noise=0.5), observations("both", 200)
    noisy = policy._noisy(jax.random.key(0), obs)
    np.testing.assert_array_equal(noisy["image"], obs["image"])
    gap = np.asarray(noisy["state"] - obs["state"])
    # 600 draws: 5 standard errors of a standard deviation, .5 / sqrt(2 n) each
    assert abs(gap.std() - 0.5) < 5 * 0.5 / np.sqrt(1200)
