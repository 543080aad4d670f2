from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.policies._codebook import Codebook, init_codebook, look_up, quantise, update
from mmbc_jax.policies.vq import perplexity

from . import _latent_toy as toy

SMALL = {"num_codes": 4, "prior_hidden": (16,)}


def test_nearest_codes_against_numpy():
    rng = np.random.default_rng(0)
    codes, z = (
        rng.standard_normal((3, 5, 2)).astype(np.float32),
        rng.standard_normal((20, 2)).astype(np.float32),
    )
    index, chosen, residual = quantise(jnp.asarray(codes), jnp.asarray(z))
    left = z.copy()
    for layer in range(3):
        np.testing.assert_allclose(residual[:, layer], left, atol=1e-6)
        expected = np.linalg.norm(left[:, None] - codes[layer], axis=-1).argmin(1)
        np.testing.assert_array_equal(index[:, layer], expected)
        np.testing.assert_array_equal(chosen[:, layer], codes[layer][expected])
        left = left - codes[layer][expected]
    np.testing.assert_allclose(look_up(jnp.asarray(codes), index), z - left, atol=1e-6)
    assert index.dtype == jnp.int32


def test_running_average_golden():
    book = Codebook(jnp.array([[[1.0], [-1.0]]]), jnp.array([[0.5, 0.5]]), jnp.array([[[0.5], [-0.5]]]))
    index, residual = jnp.array([[0], [0], [0], [1]]), jnp.array([[[2.0]], [[2.0]], [[4.0]], [[-2.0]]])
    new = update(book, jax.random.key(0), index, residual, decay=0.5, revive_below=0.1)
    # shares .5 (.5 + .75) and .5 (.5 + .25); totals .5 (.5 + 8/4) and .5 (-.5 - 2/4)
    np.testing.assert_allclose(new.share, [[0.625, 0.375]])
    np.testing.assert_allclose(new.total, [[[1.25], [-0.5]]])
    np.testing.assert_allclose(new.codes, [[[2.0], [-4.0 / 3.0]]], rtol=1e-6)


def test_dead_codes_move_onto_an_input():
    book = Codebook(jnp.array([[[1.0], [50.0]]]), jnp.array([[0.98, 0.02]]), jnp.array([[[0.98], [1.0]]]))
    index, residual = jnp.zeros((4, 1), jnp.int32), jnp.array([[[1.0]], [[2.0]], [[3.0]], [[4.0]]])
    kept = update(book, jax.random.key(0), index, residual, decay=0.9, revive_below=0.0)
    np.testing.assert_allclose(kept.codes[0, 1], [50.0], rtol=1e-5)
    new = update(book, jax.random.key(0), index, residual, decay=0.9, revive_below=0.1)
    assert float(new.codes[0, 1, 0]) in (1.0, 2.0, 3.0, 4.0)
    np.testing.assert_allclose(new.share[0, 1], 0.5)
    np.testing.assert_allclose(new.total, new.codes * new.share[..., None])


def test_codebooks_start_on_the_data():
    # four blobs; the first layer finds them, the second codes what is left within them
    centres = jnp.array([[2.0, 2.0], [2.0, -2.0], [-2.0, 2.0], [-2.0, -2.0]])
    z = jnp.repeat(centres, 25, 0) + 0.1 * jax.random.normal(jax.random.key(0), (100, 2))
    book = init_codebook(jax.random.key(1), z, layers=2, num_codes=4)
    distance = jnp.linalg.norm(book.codes[0][:, None] - centres, axis=-1)
    # a mean of 25 points at deviation .1: 5 * .1 / 5 per axis
    assert distance.min(0).max() < 0.15
    _, chosen, residual = quantise(book.codes, z)
    errors = [float(jnp.square(residual[:, 0]).mean()), float(jnp.square(residual[:, 1]).mean())]
    errors.append(float(jnp.square(residual[:, 1] - chosen[:, 1]).mean()))
    assert errors[0] > 100 * errors[1] > 100 * 1.3 * errors[2]
    few = init_codebook(jax.random.key(1), z[:2], layers=2, num_codes=4)  # fewer points than codes
    assert np.isfinite(few.codes).all()


def test_gradient_passes_straight_through():
    policy, data = toy.make("vq", **SMALL), toy.random_batch()
    v = toy.moved(policy, data)

    def total(params):
        hp = {"commitment": jnp.zeros(())}
        return policy.loss(v.replace(params=params), jax.random.key(0), data, hp).per_example.sum()

    encoder = jax.jit(jax.grad(total))(v.params)["encoder"]
    z = policy.encode(v.params, data.obs, data.chunk)
    index, _, _ = quantise(v.stats["codebook"].codes, z)
    rounded = look_up(v.stats["codebook"].codes, index)
    # the error's gradient at the rounded latent, carried on to the encoder as if there were no rounding
    at_latent = jax.jit(jax.grad(lambda x: policy.error(v.params, data, x).sum()))(rounded)

    @jax.jit
    def carried(params):
        _, pull = jax.vjp(lambda p: policy.encode({"encoder": p}, data.obs, data.chunk), params)
        return pull(at_latent)[0]

    expected = carried(v.params["encoder"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), encoder, expected)


def test_commitment_is_traced_and_golden():
    policy, data = toy.make("vq", **SMALL), toy.random_batch()
    v = toy.moved(policy, data)
    loss = jax.jit(lambda weight: policy.loss(v, jax.random.key(0), data, {"commitment": weight}))
    low, high = loss(jnp.asarray(0.0)), loss(jnp.asarray(2.0))
    z = policy.encode(v.params, data.obs, data.chunk)
    _, chosen, residual = quantise(v.stats["codebook"].codes, z)
    expected = np.square(residual - chosen).mean(-1).sum(-1)
    np.testing.assert_allclose(high.per_example - low.per_example, 2 * expected, rtol=1e-4, atol=1e-6)


def test_base_is_codes_and_transport_decodes_their_sum():
    policy, data = toy.make("vq", **SMALL), toy.random_batch()
    v = toy.moved(policy, data)
    base = policy.base_distribution(v, data.obs)
    w = base.sample(seed=jax.random.key(5))
    assert w.shape == (8, 2)
    assert jnp.issubdtype(w.dtype, jnp.integer)
    np.testing.assert_allclose(base.log_prob(w), np.full(8, -2 * np.log(4)), rtol=1e-6)
    codes = v.stats["codebook"].codes
    expected = policy.decode(v.params, data.obs, codes[0, w[:, 0]] + codes[1, w[:, 1]])
    np.testing.assert_allclose(policy.transport(v, data.obs, w), expected, rtol=1e-6)


def test_posterior_is_the_point_mass_at_the_codes():
    policy, data = toy.make("vq", **SMALL), toy.random_batch()
    v = toy.moved(policy, data)
    q = policy.posterior(v, data.obs, data.chunk)
    index, _, _ = quantise(v.stats["codebook"].codes, policy.encode(v.params, data.obs, data.chunk))
    np.testing.assert_array_equal(q.mode(), index)
    np.testing.assert_array_equal(q.sample(seed=jax.random.key(0), sample_shape=(2,))[1], index)
    np.testing.assert_array_equal(q.log_prob(index), np.zeros(8))
    assert (q.log_prob((index + 1) % 4) == -np.inf).all()


def test_perplexity_golden():
    # first layer: two codes evenly, exp(log 2) = 2; second: one code, 1
    assert perplexity(jnp.array([[0, 3], [1, 3]]), 4) == pytest.approx(1.5)


@pytest.mark.slow
def test_a_learned_prior_deploys_the_codes_of_the_data():
    policy, data = toy.make("vq", code_prior="learned", **SMALL), toy.two_modes()
    assert policy.prior.trainable
    v, metrics = toy.train(policy, data, toy.hparams("vq"), steps=300, rate=1e-2)
    low, high = toy.mode_shares(toy.draw(policy, v))
    assert min(low, high) > 0.3
    assert low + high > 0.9
    assert metrics["code/perplexity"] > 1.2
    # a fair coin at every state, and no more than the codes need
    assert np.log(2) - 0.1 < metrics["code/nll"] < 2 * np.log(4)


def test_the_priors_loss_leaves_encoder_and_decoder_alone():
    data = toy.random_batch()
    gradients = []
    for code_prior in ("uniform", "learned"):
        policy = toy.make("vq", code_prior=code_prior, **SMALL)
        v = toy.moved(toy.make("vq", **SMALL), data)
        prior = policy.prior.init(jax.random.key(9))

        def total(params, policy=policy, v=v, prior=prior):
            moved = v.replace(params={**params, "prior": prior})
            return policy.loss(moved, jax.random.key(0), data, {"commitment": jnp.asarray(0.25)}).total()

        gradients.append(jax.jit(jax.grad(total))({name: v.params[name] for name in ("network", "encoder")}))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *gradients)


def test_the_configured_prior_over_codes_is_the_policys_own_with_the_same_numbers():
    data = toy.random_batch()
    own = toy.make("vq", num_codes=16, code_prior="learned", prior_hidden=(16,), fourier_octaves=4)
    named = toy.make("vq", "categorical", num_codes=16, fourier_octaves=4)  # 16 learned codes, hidden (16,)
    for policy in (own, named):
        assert (policy.prior.discrete, policy.prior.trainable) == (True, True)
    mine, theirs = (toy.initialiser(policy)(jax.random.key(0), data) for policy in (own, named))
    jax.tree.map(np.testing.assert_array_equal, mine, theirs)
    losses = [
        policy.loss(mine, jax.random.key(1), data, {"commitment": jnp.asarray(0.25)}).per_example
        for policy in (own, named)
    ]
    np.testing.assert_array_equal(*losses)


@pytest.mark.parametrize(
    ("prior", "found"),
    [
        ("mixture", "config.prior.name = 'mixture' .*categorical, or normal"),
        ("vamp", "config.prior.name = 'vamp' .*categorical, or normal"),
        ("categorical", "config.prior.num_codes = 16 .*policy.num_codes = 4"),
    ],
)
def test_a_prior_that_is_none_over_these_codes_is_refused(prior, found):
    with pytest.raises(ConfigError, match=found):
        toy.make("vq", prior, **SMALL)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_codes", 1),
        ("layers", 0),
        ("code_prior", "gpt"),
        ("commitment", -1.0),
        ("decay", 1.5),
        ("revive_below", -0.1),
        ("prior_hidden", ()),
        ("latent_dim", 0),
    ],
)
def test_impossible_values_are_refused(field, value):
    with pytest.raises(ConfigError, match=f"policy.{field}"):
        toy.make("vq", **{field: value})
