"""Products are counted as by hand, and a share of peak is taken within its round; nothing here asserts a speed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from benchmarks import peak, subjects
from benchmarks.timing import Samples, interleave
from mmbc_jax.core.types import Batch, Variables


def test_products_of_a_loop_count_as_often_as_it_runs() -> None:
    matrix = jnp.ones((4, 4))

    def run(x: jax.Array) -> jax.Array:
        x = jax.lax.scan(lambda c, _: (matrix @ c, None), x, None, 5)[0]
        return jax.lax.cond(x.sum() > 0, lambda x: matrix @ (matrix @ x), lambda x: x, x)

    # [4, 4] x [4, 3]: 2 x 4 x 4 x 3 = 96; five of them in the scan, two in the dearer branch
    assert peak.count_products(jax.jit(run), jnp.ones((4, 3))) == pytest.approx(7 * 96e-9)


def test_products_of_a_convolution() -> None:
    def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(x, kernel, (1,), "SAME", dimension_numbers=("NHC", "HIO", "NHC"))

    # 2 examples x 8 positions x 5 outputs, each a sum of 3 taps x 4 channels
    found = peak.count_products(convolve, jnp.ones((2, 8, 4)), jnp.ones((3, 4, 5)))
    assert found == pytest.approx(2e-9 * 2 * 8 * 5 * 3 * 4)


def test_products_of_the_cloning_loss_are_those_counted_by_hand() -> None:
    policy, rows = subjects.flow_policy(), 8
    batch = Batch(jnp.ones((rows, 4)), jnp.ones((rows, 8, 2)), jnp.ones((rows, 8)))
    params = jax.eval_shape(policy.init, jax.random.key(0), batch).params

    def loss(params: object) -> jax.Array:
        return policy.loss(Variables(params, {"prior": {}}), jax.random.key(0), batch, {}).total()

    work = subjects.count_work(policy)
    assert peak.count_products(loss, params) == pytest.approx(1e-9 * rows * work.forward)
    both = 1e-9 * rows * (work.forward + work.backward)
    assert peak.count_products(jax.grad(loss), params) == pytest.approx(both)


def test_share_of_peak_is_taken_within_rounds() -> None:
    samples = {
        "ours": Samples([1.0, 2.0, 2.0], [1.0] * 3),
        "torch": Samples([2.0] * 3, [2.0] * 3),
        peak.PRODUCTS[0]: Samples([0.1, 0.2, 0.2], [0.01] * 3),
        peak.PRODUCTS[1]: Samples([0.2, 0.1, 0.4], [0.02] * 3),
    }
    found = peak.summarise(samples, "ours", {"ours": 4.0}, cores=2)
    # the faster product of each round: 1/.1, 1/.1, 1/.2; ours 4/1, 4/2, 4/2: shares .4, .2, .4
    assert found["peak_gflops"]["median"] == pytest.approx(10.0)
    assert found["share_of_peak"]["ours"]["median"] == pytest.approx(0.4)
    assert set(found["seconds"]) == {"ours", "torch"}
    assert set(found["share_of_peak"]) == {"ours"}
    alone = peak.summarise(samples, "ours", {"ours": 4.0}, cores=1)  # processor time: 4 / 100
    assert alone["share_of_peak"]["ours"]["median"] == pytest.approx(0.04)


def test_peak_is_a_contender_of_every_round() -> None:
    found = interleave(peak.contenders(), rounds=2)
    assert peak.PRODUCTS[0] in found
    assert set(found) <= set(peak.PRODUCTS)
    assert all(min(sample.wall) > 0 for sample in found.values())
