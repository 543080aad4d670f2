"""The bounds on maps whose Lipschitz constant is certain: networks of bounded layers."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from mmbc_jax.nn.mlp import MLP
from mmbc_jax.ops.capacity_bounds import bridge_mass_bound, enlargement_sum, mode_bound, required_lipschitz
from tests.toys.products import spared

N = 200_000


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("bound", [1.0, 2.0])
@spared("2.0-*")
def test_no_bound_is_broken_by_a_network_of_bounded_layers(seed, bound):
    # two hidden layers of relu (1-Lipschitz) and three linear maps of norm <= bound: L = bound^3
    network = MLP((32, 32), 2, activation="relu", spectral_norm=bound)
    key_init, key_move, key_base = jax.random.split(jax.random.key(seed), 3)
    x = jax.random.normal(key_base, (N, 3))
    params = network.init(key_init, x[:1])
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key_move, len(leaves))
    params = tree.unflatten([p + jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)])
    y = np.asarray(jax.jit(network.apply)(params, x))[:, 0]
    # three slabs of the first output, delta apart: sets, as the bound asks, not nearest-centre labels
    delta = 0.25 * (np.quantile(y, 0.9) - np.quantile(y, 0.1))
    cuts = np.quantile(y, [0.3, 0.7])
    slabs = [
        y < cuts[0] - delta / 2,
        (y > cuts[0] + delta / 2) & (y < cuts[1] - delta / 2),
        y > cuts[1] + delta / 2,
    ]
    masses = np.array([slab.mean() for slab in slabs])
    masses = masses[masses > 0.01]
    slack = (
        5 * np.sqrt(len(masses) / (4 * N)) * 3
    )  # of the masses; the enlargement magnifies them less than 3 times
    certified = bound**3
    assert enlargement_sum(masses, certified, delta) <= 1 + slack
    assert bridge_mass_bound(masses, certified, delta) <= 1 - masses.sum() + slack
    assert required_lipschitz(masses, delta) <= certified * (1 + slack)
    assert len(masses) <= mode_bound(certified, delta, masses.min() - slack)
    # and the statement has content: a tenth of the constant that is needed would break it
    assert enlargement_sum(masses, required_lipschitz(masses, delta) / 10, delta) > 1 + slack
