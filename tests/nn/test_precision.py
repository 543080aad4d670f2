"""Products of networks in a precision: what is multiplied in it, and that nothing else is."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import mmbc_jax
from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.observations import ObsSpec
from mmbc_jax.nn import convolution, mlp, precision
from mmbc_jax.nn.chunk_transformer import SelfAttention
from mmbc_jax.nn.critic import ActionCritic
from mmbc_jax.nn.image_encoder import ImageEncoder
from mmbc_jax.nn.mlp import MLP
from mmbc_jax.nn.precision import PRECISIONS, advice, described, networks_in, precision_of, product
from mmbc_jax.runs import setup as setup_lib
from mmbc_jax.runs.stages import make_stages
from mmbc_jax.runs.templates import dummy_shared
from tests.toys.landscape import toy_config
from tests.toys.products import spared

ROWS = (((1,), (0,)), ((), ()))
BF16 = jnp.bfloat16.dtype if hasattr(jnp.bfloat16, "dtype") else jnp.dtype(jnp.bfloat16)


def equations(jaxpr):
    """All equations, those of inner programs among them."""
    for eqn in jaxpr.eqns:
        yield eqn
        for value in eqn.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from equations(inner)


def types(eqn):
    return {getattr(getattr(v, "aval", None), "dtype", None) for v in (*eqn.invars, *eqn.outvars)}


def operand_types(fn, *args):
    """How often products have operands of which types."""
    found = Counter()
    for eqn in equations(jax.make_jaxpr(fn)(*args).jaxpr):
        if eqn.primitive.name in ("dot_general", "conv_general_dilated"):
            found[tuple(str(v.aval.dtype) for v in eqn.invars)] += 1
    return found


@pytest.fixture
def pair():
    keys = jax.random.split(jax.random.key(0))
    return jax.random.normal(keys[0], (6, 5)), jax.random.normal(keys[1], (5, 3))


def test_fp32_is_the_product(pair):
    x, y = pair
    for name in ("fp32", "tf32"):  # of which a CPU has but the first
        np.testing.assert_array_equal(product(x, y, ROWS, name), x @ y)
    asked = [str(e.params["precision"]) for name in PRECISIONS for e in
             equations(jax.make_jaxpr(lambda a, b, name=name: product(a, b, ROWS, name))(x, y).jaxpr)
             if e.primitive.name == "dot_general"]  # fmt: skip
    assert ["HIGHEST" in asked[0], "HIGH," in asked[1], "DEFAULT" in asked[2]] == [True] * 3


def test_bf16_rounds_the_operands_and_sums_in_float32(pair):
    x, y = pair
    found = product(x, y, ROWS, "bf16")
    assert found.dtype == jnp.float32
    rounded = [np.asarray(a.astype(jnp.bfloat16), np.float64) for a in pair]
    np.testing.assert_allclose(found, rounded[0] @ rounded[1], rtol=1e-6, atol=1e-6)
    ones = jnp.ones((1, 3000)), jnp.ones((3000, 1))
    assert product(*ones, ROWS, "bf16") == 3000.0  # which a sum in bfloat16 does not reach


def test_gradients_and_tangents_are_bf16_products_too(pair):
    x, y = pair

    def total(x, y, name="bf16"):
        return jnp.square(product(x, y, ROWS, name)).sum()

    assert operand_types(jax.grad(total, (0, 1)), x, y) == {("bfloat16", "bfloat16"): 3}
    for ours, exact in zip(jax.grad(total, (0, 1))(x, y), jax.grad(total, (0, 1))(x, y, "fp32"), strict=True):
        assert ours.dtype == jnp.float32
        np.testing.assert_allclose(ours, exact, rtol=0.03, atol=0.03 * np.abs(exact).max())
    assert set(operand_types(lambda x, v: jax.jvp(total, (x, y), (v, y)), x, x)) == {("bfloat16", "bfloat16")}
    batched = jax.vmap(jax.grad(total), (0, None))(jnp.stack([x, 2 * x]), y)
    np.testing.assert_array_equal(batched[0], jax.grad(total)(x, y))
    pushed = jax.grad(lambda x: jax.jvp(lambda a: product(a, y, ROWS, "bf16"), (x,), (x,))[1].sum())(x)
    assert np.isfinite(pushed).all()  # mean flow differentiates a tangent


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(precision.Dense(7), nn.Dense(7)), (precision.DenseGeneral((2, 3)), nn.DenseGeneral((2, 3)))],
)
def test_fp32_layers_are_those_of_flax_bit_for_bit(ours, theirs):
    x = jax.random.normal(jax.random.key(1), (4, 6))

    def both(layer):
        params = layer.init(jax.random.key(2), x)
        return params, jax.value_and_grad(lambda p: jnp.square(layer.apply(p, x)).sum())(params)

    assert jax.tree.structure(both(ours)) == jax.tree.structure(both(theirs))
    for a, b in zip(jax.tree.leaves(both(ours)), jax.tree.leaves(both(theirs)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_network_keeps_the_precision_it_was_built_in():
    with networks_in("bf16"):
        inside = MLP((4,), 2)
        with networks_in("tf32"):
            assert precision_of(MLP((4,), 2)) == "tf32"
        assert precision_of(MLP((4,), 2)) == "bf16"
    assert precision_of(inside) == precision_of(inside.clone()) == "bf16"
    assert precision_of(MLP((4,), 2)) == "fp32"
    assert inside != MLP((4,), 2)  # or `jax.jit` would take one for the other
    x = jnp.ones((2, 3))
    params = inside.init(jax.random.key(0), x)
    with networks_in("tf32"):  # where it is used says nothing
        assert set(operand_types(inside.apply, params, x)) == {("bfloat16", "bfloat16")}


def layers():
    obs, z = jnp.ones((2, 4)), jnp.zeros(2, jnp.int32)
    yield "bounded", MLP((4,), 2, spectral_norm=1.0), (obs,)
    yield "ensemble", ActionCritic(ObsSpec.vector(4), (4,), 2), (obs, jnp.ones((2, 3)), z, jnp.ones(2))
    yield "image", ImageEncoder(4, (4, 8)), (jnp.ones((2, 16, 16, 3)),)
    yield "attention", MLPAround(), (jnp.ones((2, 5, 4)),)


class MLPAround(precision.Network):
    """Layers below a module of another file."""

    @nn.compact
    def __call__(self, x):
        return SelfAttention(2)(x)


@pytest.mark.parametrize("name", ["bounded", "ensemble", "image", "attention"])
@spared("image")
def test_every_layer_of_a_bf16_network_multiplies_in_bf16(name):
    with networks_in("bf16"):
        (_, module, inputs) = next(one for one in layers() if one[0] == name)
    params = module.init(jax.random.key(0), *inputs)

    def loss(p):
        return jnp.square(module.apply(p, *inputs)).sum()

    found = operand_types(jax.grad(loss), params)
    exact = (
        {("float32", "float32"): 4} if name == "image" else {}
    )  # keypoints: x @ across, y @ down, and back
    assert found.pop(("bfloat16", "bfloat16")) >= 3
    assert found == exact
    assert {leaf.dtype for leaf in jax.tree.leaves(jax.eval_shape(jax.grad(loss), params))} == {
        jnp.dtype("float32")
    }


def test_no_other_file_makes_a_layer_of_flax_that_multiplies():
    """So that a product has the network's precision: `nn.precision` has their stand-ins."""
    root = Path(mmbc_jax.__file__).parent
    multiplying = {"Dense", "DenseGeneral", "Conv", "ConvTranspose", "Einsum", "MultiHeadDotProductAttention"}
    found = [
        f"{path.relative_to(root)}:{node.lineno}"
        for path in sorted(root.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in multiplying and path.name != "precision.py"
    ]
    assert found == []


def built(name, kind, value, **sections):
    config = toy_config(precision=name, stages="bc,discover")
    config[kind] = plugin(kind, value, **{k: v for k, v in SMALL.items() if k in plugin(kind, value)})
    for section, chosen in sections.items():
        config[section] = plugin(section, chosen)
    return setup_lib.build(config)


SMALL = {"hidden": (8,), "num_envs": 4, "decisions": 2, "minibatches": 2, "epochs": 1, "critic_hidden": (8,),
         "updates": 2, "batch_size": 8, "capacity": 32, "warmup": 8}  # fmt: skip


def train_steps(setup, names):
    """(stage, its step, its state's shapes, shared shapes) of stages."""
    stages, shared, parent = make_stages(setup, names), dummy_shared(setup), None
    for name, stage in stages.items():
        hp = {key: jax.ShapeDtypeStruct((1,), jnp.float32) for key in (*stage.scalars, *stage.constants)}
        parent = stage.template(hp, parent, shared)
        yield (
            name,
            stage.train_step,
            jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), parent),
            shared,
        )


PARTS = [("policy", name) for name in registry.available("policy")]
PARTS += [("learner", "ppo"), ("learner", "sac"), ("actor", "gaussian"), ("prior", "conditional")]
MOVES = {"dot_general", "convert_element_type", "transpose", "reshape", "broadcast_in_dim", "squeeze", "slice",
         "concatenate", "dynamic_slice", "copy", "expand_dims"}  # fmt: skip
HOLDS = {"jit", "pjit", "scan", "while", "cond", "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr",
         "closed_call", "remat", "checkpoint"}  # fmt: skip


@pytest.mark.heavy
@pytest.mark.parametrize(("kind", "name"), PARTS, ids=lambda x: x)
@spared(
    "learner-sac",
    "policy-mixture_flow",
    "policy-latent_flow",
    "policy-mdn",
    "policy-ibc",
    "policy-vq",
    "policy-bet",
    "policy-cvae",
)
def test_training_in_bf16_rounds_operands_of_networks_and_nothing_else(kind, name, monkeypatch):
    """What is bfloat16 is rounded, moved and multiplied: no other arithmetic. No plug-in speaks of precision."""
    asked = []

    def watched(x, y, dims, precision, own=precision.product):
        asked.append(precision)
        return own(x, y, dims, precision)

    for module in (precision, mlp):
        monkeypatch.setattr(module, "product", watched)
    precision.dot_general_in.cache_clear()
    setup = built("bf16", kind, name, **({"policy": "cvae"} if kind == "prior" else {}))
    names = ("bc",) if kind in ("policy", "prior") else ("bc", "discover")
    with jax.debug_key_reuse(False):
        for stage, step, state, shared in train_steps(setup, names):
            assert not [leaf for leaf in jax.tree.leaves(state) if leaf.dtype == jnp.bfloat16]
            jaxpr = jax.make_jaxpr(step)(state, shared).jaxpr
            rounded = Counter(eqn.primitive.name for eqn in equations(jaxpr) if BF16 in types(eqn))
            assert rounded["dot_general"] >= 3, stage
            assert not set(rounded) - MOVES - HOLDS, stage
    assert set(asked) == {"bf16"}
    precision.dot_general_in.cache_clear()


def test_the_search_for_other_arithmetic_finds_it():
    def careless(x):
        return jnp.exp(x.astype(jnp.bfloat16)).astype(jnp.float32)

    rounded = {
        e.primitive.name for e in equations(jax.make_jaxpr(careless)(jnp.ones(3)).jaxpr) if BF16 in types(e)
    }
    assert rounded - MOVES - HOLDS == {"exp"}


def test_convolutions_of_a_precision_agree():
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 3))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 4))
    exact = convolution.convolve(x, kernel)
    rounded = convolution.convolve(x, kernel, 1, "bf16")
    assert rounded.dtype == jnp.float32
    assert 1e-4 < np.abs(rounded - exact).max() < 0.1


def test_tables_say_what_was_computed():
    assert [described(name, "gpu") for name in PRECISIONS] == list(PRECISIONS)
    assert described("tf32", "cpu") == "tf32 (as fp32: cpu)"
    assert described("bf16", "cpu") == "bf16"


def test_whoever_starts_a_run_hears_what_there_is_to_choose():
    assert [advice(name, "cpu") for name in PRECISIONS] == [
        "",
        "precision: networks in tf32 (as fp32: cpu)",
        "",
    ]
    assert "default here is --config.precision=tf32" in advice("fp32", "gpu")
    assert advice("bf16", "gpu") == "precision: networks in bf16, all else in fp32"


def test_what_is_no_network_is_exact_unless_jax_was_told_otherwise():
    name = "jax_default_matmul_precision"
    before = jax.config.values[name]
    try:
        for told, kept in ((None, "highest"), ("tensorfloat32", "tensorfloat32")):
            jax.config.update(name, told)
            precision.exact_elsewhere()
            assert jax.config.values[name] == kept
    finally:
        jax.config.update(name, before)
