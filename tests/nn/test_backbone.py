"""Every backbone and every chunk encoder, and the parts of the transformer and the U-Net against references."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.types import PolicySpec
from mmbc_jax.nn.backbone import (
    BACKBONES,
    NetworkOptions,
    bind,
    init_backbone,
    make_backbone,
    make_chunk_encoder,
)
from mmbc_jax.nn.chunk_transformer import AdaLNBlock
from mmbc_jax.nn.chunk_unet import Conv1d, FiLMBlock, num_groups, pad_to_multiple
from tests.toys.products import spared, sparing

H, A, OUT, D, E = 5, 2, 3, 4, 2
SMALL = {
    "hidden": (16, 16),
    "width": 16,
    "depth": 1,
    "heads": 2,
    "channels": (8, 16),
    "fourier_octaves": 1,
    "time_dim": 4,
}


SPEC = PolicySpec(D, A, H)


def config(name: str, **fields) -> NetworkOptions:
    return NetworkOptions(**{**SMALL, "backbone": name, **fields})


def filled(shapes, seed: int = 0, size: float = 0.3):
    """Parameters of these shapes, random down to the biases: nothing passes on a constant output."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: jnp.asarray(size * rng.standard_normal(p.shape, np.float32)), shapes)


def draw(*batch: int):
    rng = np.random.default_rng(2)
    shapes = {"x": (H, A), "obs": (D,), "extra": (E,)}
    return {k: rng.uniform(-1, 1, (*batch, *s)).astype(np.float32) for k, s in shapes.items()}


@functools.cache
def network(name: str):
    module = make_backbone(config(name), SPEC, OUT)
    data = draw()
    init = functools.partial(
        init_backbone, module, obs=data["obs"], x=data["x"], t=jnp.zeros(()), extra=data["extra"]
    )
    return module, init


def random_params(name: str, seed: int = 0):
    return filled(jax.eval_shape(network(name)[1], jax.random.key(0)), seed)


@functools.cache
def encoder(name: str):
    module, data = make_chunk_encoder(config(name), SPEC, OUT), draw()
    return module, functools.partial(module.init, chunk=data["x"], obs=data["obs"])


@functools.cache
def compiled(name: str):
    module, _ = network(name)
    return jax.jit(lambda p, x, t, obs, extra: module.apply({"params": p}, x, t, obs, extra))


@pytest.mark.parametrize("name", sparing(BACKBONES, ("unet",)))
def test_any_leading_dims_and_scalar_or_own_times(name):
    module, params, call = network(name)[0], random_params(name), compiled(name)
    data, t = draw(2, 3), jnp.linspace(0.0, 1.0, 6).reshape(2, 3)
    full = call(params, data["x"], t, data["obs"], data["extra"])
    assert full.shape == (2, 3, H, OUT)
    one = {k: v[1, 2] for k, v in data.items()}
    single = call(params, one["x"], t[1, 2], one["obs"], one["extra"])
    assert single.shape == (H, OUT)
    np.testing.assert_allclose(single, full[1, 2], rtol=1e-4, atol=1e-5)
    row = {k: v[1] for k, v in data.items()}
    bound = jax.jit(lambda p, x, t, obs, extra: bind(module, p, obs, extra)(x, t))
    shared = bound(params, row["x"], t[1, 2], row["obs"], row["extra"])
    np.testing.assert_allclose(shared[2], full[1, 2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BACKBONES)
def test_untrained_output_is_zero(name):
    params = jax.jit(network(name)[1])(jax.random.key(0))
    data = draw()
    out = compiled(name)(params, data["x"], jnp.array(0.5), data["obs"], data["extra"])
    np.testing.assert_array_equal(out, 0.0)


@pytest.mark.parametrize("name", sparing(BACKBONES, ("unet",)))
def test_output_depends_on_each_input(name):
    params, data = random_params(name), draw()

    def total(x, t, obs, extra):
        return (compiled(name)(params, x, t, obs, extra)[0] ** 2).sum()

    gradients = jax.grad(total, argnums=(0, 1, 2, 3))(data["x"], jnp.array(0.4), data["obs"], data["extra"])
    for gradient in gradients:  # that of x over all actions: the first output sees the whole chunk
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).min() > 0


@pytest.mark.parametrize("name", BACKBONES)
@spared("unet")
def test_vmap_over_parameters_equals_a_loop(name):
    data, many = draw(4), [random_params(name, seed) for seed in range(2)]
    rest = (data["x"], jnp.array(0.7), data["obs"], data["extra"])
    together = jax.vmap(compiled(name), in_axes=(0, *[None] * 4))(
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *many), *rest
    )
    expected = jnp.stack([compiled(name)(p, *rest) for p in many])
    np.testing.assert_allclose(together, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", BACKBONES)
def test_without_a_chunk_and_a_time(name):
    module, obs = make_backbone(config(name), SPEC, OUT), draw(6)["obs"]
    params = filled(jax.eval_shape(lambda key: init_backbone(module, key, jnp.zeros(D)), jax.random.key(0)))
    out = jax.jit(lambda p, o: bind(module, p, o)())(params, obs)
    assert out.shape == (6, H, OUT)
    assert np.ptp(out, axis=0).min() > 0  # the observation matters to every output
    assert np.ptp(out, axis=1).min() > 0  # and the place in the chunk
    names = {p[0].key for p, _ in jax.tree_util.tree_leaves_with_path(params)}
    assert "from_x" not in names


@pytest.mark.parametrize("length", [1, 2, 7])
def test_unet_works_for_any_length(length):
    module = make_backbone(config("unet", channels=(8, 8, 8)), PolicySpec(D, A, length), OUT)
    obs = jnp.zeros(D)
    params = jax.eval_shape(
        lambda key: init_backbone(module, key, obs, jnp.zeros((length, A))), jax.random.key(0)
    )
    out = jax.eval_shape(lambda p: bind(module, p, obs)(jnp.zeros((3, length, A))), params)
    assert out.shape == (3, length, OUT)


def count(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def shapes_of(name: str, **fields):
    module = make_backbone(NetworkOptions(backbone=name, **fields), SPEC, OUT)
    return jax.eval_shape(
        lambda key: init_backbone(module, key, jnp.zeros(D), jnp.zeros((H, A)), jnp.zeros(())),
        jax.random.key(0),
    )


def test_number_of_parameters():
    # one more block of the transformer at width w: modulation 6w(w+1), qkv 3w(w+1), out w(w+1), MLP
    # w(2w) + 2w + (2w)w + w = 4w^2 + 3w; together 14 w^2 + 13 w = 920832 at w = 256
    extra = count(shapes_of("transformer", depth=3)) - count(shapes_of("transformer", depth=2))
    assert extra == 14 * 256**2 + 13 * 256
    # a U-Net of one level c = 64 on a condition of 256: condition (36 + 32 + 256) 256 + 2 * 256; four blocks
    # of conv_in and conv_out with bias, two norms of 2c, FiLM 2c (256 + 1); a shortcut; c OUT + OUT at the end
    c, w = 64, 256
    block = 5 * c * c + c + 4 * c + 2 * c * (w + 1)
    first = (5 * A * c + c) + (5 * c * c + c) + 4 * c + 2 * c * (w + 1) + (A * c + c)
    rest = 3 * (block + 5 * c * c + c)
    assert (
        count(shapes_of("unet", channels=(64,))) == (36 + 32 + w) * w + 2 * w + first + rest + c * OUT + OUT
    )


@functools.cache
def shuffled(positions: bool):
    """Output for a chunk in two orders, the second put back in the first's."""
    params = random_params("transformer")
    if not positions:
        params = {**params, "positions": jnp.zeros_like(params["positions"])}
    data, order = draw(), np.array([3, 0, 4, 1, 2])
    rest = (jnp.array(0.2), data["obs"], data["extra"])
    plain = compiled("transformer")(params, data["x"], *rest)
    return plain, compiled("transformer")(params, data["x"][order], *rest)[np.argsort(order)]


def test_transformer_knows_the_order_by_its_positions_alone():
    np.testing.assert_allclose(*shuffled(positions=False), rtol=1e-4, atol=1e-4)
    plain, back = shuffled(positions=True)
    assert np.abs(plain - back).max() > 0.1


def dense(p, x):
    return x @ np.asarray(p["kernel"], np.float64) + np.asarray(p["bias"], np.float64)


def gelu(x):  # the tanh form, which jax.nn.gelu is by default
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def layer_norm(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)


def test_transformer_block_written_out():
    width, heads = 8, 2
    rng = np.random.default_rng(3)
    x, c = rng.standard_normal((H, width)), rng.standard_normal(6)
    block = AdaLNBlock(heads)
    params = filled(jax.eval_shape(block.init, jax.random.key(0), x, c)["params"])
    m = np.split(dense(params["modulation"]["linear"], gelu(c)), 6)  # shift, scale, gate, then of the MLP
    h = (1 + m[1]) * layer_norm(x) + m[0]
    kernel, bias = (np.asarray(params["attention"]["qkv"][k], np.float64) for k in ("kernel", "bias"))
    mixed = []
    for head in range(heads):
        q, k, v = (h @ kernel[:, i, head] + bias[i, head] for i in range(3))
        logits = np.exp(q @ k.T / np.sqrt(width / heads))
        mixed.append(logits / logits.sum(-1, keepdims=True) @ v)
    y = x + m[2] * dense(params["attention"]["out"], np.concatenate(mixed, -1))
    mlp = params["mlp"]
    expected = y + m[5] * dense(
        mlp["Dense_1"], gelu(dense(mlp["Dense_0"], (1 + m[4]) * layer_norm(y) + m[3]))
    )
    result = jax.jit(block.apply)({"params": params}, x, c)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


def convolved(p, x, kernel, stride=1):
    """x [B, L, C] through the weights of a `Conv1d`, whose rows are ordered tap by tap, sum by sum."""
    weight = np.asarray(p["taps"]["kernel"], np.float64).reshape(kernel, x.shape[-1], -1)
    centres = range(0, x.shape[1], stride)
    out = np.zeros((len(x), len(centres), weight.shape[-1])) + np.asarray(p["taps"]["bias"])
    for row, centre in enumerate(centres):
        for tap in range(kernel):
            at = centre + tap - kernel // 2
            if 0 <= at < x.shape[1]:
                out[:, row] += x[:, at] @ weight[tap]
    return out


def mish(x):
    return x * np.tanh(np.logaddexp(x, 0.0))


def group_norm(p, x, groups):
    """x [B, L, C], each group of channels normalised over itself and the length."""
    parts = x.reshape(*x.shape[:2], groups, -1)
    mean, var = (f(parts, axis=(1, 3), keepdims=True) for f in (np.mean, np.var))
    return ((parts - mean) / np.sqrt(var + 1e-6)).reshape(x.shape) * np.asarray(p["scale"]) + p["bias"]


@pytest.mark.parametrize(("kernel", "stride", "length"), [(5, 1, 6), (3, 2, 6), (3, 2, 5), (5, 1, 1)])
def test_convolution_sum_by_sum(kernel, stride, length):
    x = np.random.default_rng(4).standard_normal((2, length, 3)).astype(np.float32)
    conv = Conv1d(4, kernel, stride)
    params = filled(jax.eval_shape(conv.init, jax.random.key(0), x)["params"])
    expected = convolved(params, x, kernel, stride)
    np.testing.assert_allclose(conv.apply({"params": params}, x), expected, rtol=1e-5, atol=1e-5)


def test_film_block_against_numpy():
    channels = 16
    rng = np.random.default_rng(5)
    x, c = (rng.standard_normal(s).astype(np.float32) for s in ((2, 6, 3), (2, 7)))
    block = FiLMBlock(channels, "mish")
    p = filled(jax.eval_shape(block.init, jax.random.key(0), x, c)["params"])

    def linear(name, h):
        return h @ np.asarray(p[name]["kernel"], np.float64) + np.asarray(p[name]["bias"])

    h = mish(group_norm(p["norm_in"], convolved(p["conv_in"], x, 5), 2))
    scale, shift = np.split(linear("film", mish(c))[:, None], 2, axis=-1)
    h = mish(group_norm(p["norm_out"], convolved(p["conv_out"], (1 + scale) * h + shift, 5), 2))
    expected = h + linear("shortcut", x)
    np.testing.assert_allclose(jax.jit(block.apply)({"params": p}, x, c), expected, rtol=1e-4, atol=1e-4)


def test_groups_and_padding():
    assert [num_groups(c) for c in (4, 8, 16, 20, 64, 256)] == [1, 1, 2, 2, 8, 8]
    x = jnp.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(pad_to_multiple(x, 4), [[0, 1], [2, 3], [4, 5], [4, 5]])
    assert pad_to_multiple(x, 3) is x


@pytest.mark.parametrize("name", BACKBONES)
@spared("unet")
def test_encoder_shapes_and_dependence(name):
    module, init = encoder(name)
    data, params = draw(2, 3), jax.jit(init)(jax.random.key(0))
    call = jax.jit(module.apply)
    full = call(params, data["x"], data["obs"])
    assert full.shape == (2, 3, OUT)
    assert np.ptp(full, axis=(0, 1)).min() > 0  # not zero at first
    one = call(params, data["x"][1, 2], data["obs"][1, 2])
    np.testing.assert_allclose(one, full[1, 2], rtol=1e-4, atol=1e-5)
    back = call(params, data["x"][1, 2, ::-1], data["obs"][1, 2])
    assert np.abs(one - back).max() > 1e-3  # the order of the actions matters
    gradients = jax.grad(lambda chunk, obs: call(params, chunk, obs)[0, 0, 0], argnums=(0, 1))(
        data["x"], data["obs"]
    )
    for gradient in gradients:
        assert np.abs(gradient[0, 0]).min() > 0
        assert np.abs(gradient[1]).max() == 0  # examples do not see each other


@pytest.mark.parametrize(
    ("backbone", "field", "value", "named"),
    [
        ("mpl", "backbone", "mpl", "backbone"),
        ("mlp", "hidden", (), "hidden"),
        ("unet", "channels", (8, 0), "channels"),
        ("transformer", "heads", 0, "heads"),
        ("transformer", "heads", 3, "width"),
        ("transformer", "width", 15, "width"),
        ("transformer", "depth", 0, "depth"),
        ("unet", "width", 0, "width"),
        ("mlp", "time_dim", 3, "time_dim"),
    ],
)
def test_impossible_options_are_refused(backbone, field, value, named):
    cfg = NetworkOptions.to_config()
    cfg.update({**SMALL, "backbone": backbone})
    with cfg.ignore_type():
        cfg[field] = value
    with pytest.raises(ConfigError, match=f"policy.{named}"):
        NetworkOptions.from_config(cfg, "policy")


def test_an_option_of_another_backbone_is_not_checked_against_it():
    cfg = NetworkOptions.to_config()
    cfg.update({"backbone": "unet", "width": 15})
    assert NetworkOptions.from_config(cfg, "policy").width == 15
