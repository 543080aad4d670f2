"""What networks see of an observation, against numpy and scipy, and what owns parameters."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from mmbc_jax.core.observations import ObsEntry, ObsSpec
from mmbc_jax.core.types import PolicySpec
from mmbc_jax.nn.backbone import (
    NetworkOptions,
    bind,
    bind_features,
    init_backbone,
    make_backbone,
    make_head,
    observe,
)
from mmbc_jax.nn.embedding import fourier_features
from mmbc_jax.nn.image_encoder import ImageEncoder
from mmbc_jax.nn.mlp import MLP
from mmbc_jax.nn.obs_encoder import ObsEncoder

IMAGE = ObsEntry((8, 8, 3), "image")
SMALL = NetworkOptions(hidden=(8,), fourier_octaves=1, image_channels=(4,), image_features=5, image_patch=2)


def encoded(spec, obs, octaves=0):
    encoder = ObsEncoder(spec, octaves)
    params = encoder.init(jax.random.key(0), obs)
    assert params == {}
    return np.asarray(encoder.apply(params, obs))


def test_a_plain_vector_is_its_fourier_features_and_owns_nothing():
    obs = jax.random.uniform(jax.random.key(1), (2, 3, 4), minval=-1, maxval=1)
    np.testing.assert_array_equal(encoded(ObsSpec.vector(4), obs, 3), fourier_features(obs, 3))
    np.testing.assert_array_equal(encoded(ObsSpec.vector(4), obs), obs)


def test_angles_are_seen_by_cosine_and_sine():
    obs = jnp.array([[0.3, 2.0, -0.7, 3.1], [0.3, 2.0 - 2 * np.pi, -0.7, 3.1 + 4 * np.pi]])
    found = encoded(ObsSpec.vector(4, angles=(1, 3)), obs)
    expected = [0.3, -0.7, np.cos(2.0), np.cos(3.1), np.sin(2.0), np.sin(3.1)]
    np.testing.assert_allclose(found, [expected] * 2, atol=1e-5)


def test_quaternions_are_seen_as_rotations():
    rotations = Rotation.random(6, random_state=0)
    x, y, z, w = rotations.as_quat().T  # scipy puts the scalar last
    q = np.stack([w, x, y, z], -1)
    place = np.linspace(-1, 1, 6)[:, None]
    spec = ObsSpec.vector(5, quaternions=(1,))
    found, turned = (
        encoded(spec, jnp.asarray(np.concatenate([place, sign * q], -1), jnp.float32)) for sign in (1, -1)
    )
    columns = rotations.as_matrix()[:, :, :2].transpose(0, 2, 1).reshape(6, 6)  # one column after the other
    np.testing.assert_allclose(found, np.concatenate([place, columns], -1), atol=1e-5)
    np.testing.assert_allclose(turned, found, atol=1e-6)


def test_entries_are_encoded_in_the_order_of_their_names():
    spec = ObsSpec.of({"state": ObsEntry((2,)), "camera": IMAGE, "arm": ObsEntry((3,))})
    rng = np.random.default_rng(0)
    obs = {
        "state": jnp.asarray(rng.uniform(-1, 1, (4, 2)), jnp.float32),
        "camera": jnp.asarray(rng.integers(0, 256, (4, 8, 8, 3)), jnp.uint8),
        "arm": jnp.asarray(rng.uniform(-1, 1, (4, 3)), jnp.float32),
    }
    encoder = ObsEncoder(spec, 2, (4,), 6)
    params = encoder.init(jax.random.key(0), obs)
    assert set(params["params"]) == {"camera"}
    image = ImageEncoder(6, (4,)).apply({"params": params["params"]["camera"]}, obs["camera"])
    parts = (fourier_features(obs["arm"], 2), image, fourier_features(obs["state"], 2))
    np.testing.assert_allclose(encoder.apply(params, obs), jnp.concatenate(parts, -1), rtol=1e-5, atol=1e-6)


def test_a_head_is_an_mlp_on_the_features():
    spec = PolicySpec(4, 2, 3)
    head, obs = make_head(SMALL, spec, 5), jnp.linspace(-1, 1, 8).reshape(2, 4)
    params = head.init(jax.random.key(0), obs)
    mlp = MLP((8,), 5, zero_last=True)
    plain = mlp.init(jax.random.key(0), fourier_features(obs, 1))
    jax.tree.map(np.testing.assert_array_equal, params, plain)
    moved = jax.tree.map(lambda p: p + 0.1, params)
    np.testing.assert_allclose(head.apply(moved, obs), mlp.apply(moved, fourier_features(obs, 1)), rtol=1e-6)
    seeing = make_head(SMALL, PolicySpec(0, 2, 3, ObsSpec.of({"camera": IMAGE})), 5)
    params = seeing.init(jax.random.key(0), {"camera": jnp.zeros((2, 8, 8, 3), jnp.uint8)})["params"]
    assert set(params["obs_encoder"]) == {"camera"}
    assert params["obs_encoder"]["camera"]["stem"]["kernel"].shape == (2, 2, 3, 4)


def test_features_can_be_bound_in_place_of_the_observation():
    spec = PolicySpec(0, 2, 3, ObsSpec.of({"camera": IMAGE}))
    rng = np.random.default_rng(1)
    obs = {"camera": jnp.asarray(rng.integers(0, 256, (2, 8, 8, 3)), jnp.uint8)}
    x, extra = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((2, 3, 2), (2, 4)))
    network = make_backbone(SMALL, spec, 2)
    params = init_backbone(network, jax.random.key(0), obs, x, extra=extra)
    params = jax.tree.map(lambda p: p + 0.1 * rng.standard_normal(p.shape, np.float32), params)
    whole = network.apply({"params": params}, x, None, obs, extra)
    np.testing.assert_allclose(bind(network, params, obs, extra)(x), whole, rtol=1e-5, atol=1e-6)
    parts = bind_features(network, params, observe(network, params, obs), extra)(x)
    np.testing.assert_array_equal(parts, bind(network, params, obs, extra)(x))
    assert np.abs(whole[0] - whole[1]).max() > 1e-3
