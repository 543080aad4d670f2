"""The PyTorch peer computes what the framework computes, or a ratio of times would mean nothing."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import subjects
from benchmarks.weights import randomise
from mmbc_jax.core.types import Variables
from mmbc_jax.learners import bc
from mmbc_jax.learners._optim import warmup_cosine
from mmbc_jax.policies.flow import FlowPolicy

torch = pytest.importorskip("torch", reason="the benchmarks' optional dependency")
cloning = pytest.importorskip("benchmarks.cloning")
sampling = pytest.importorskip("benchmarks.sampling")
torch_subjects = pytest.importorskip("benchmarks.mirrors.subjects")
peers = pytest.importorskip("benchmarks.mirrors.cloner")
torch_networks = pytest.importorskip("benchmarks.mirrors.networks")


def clone() -> tuple[FlowPolicy, Variables]:
    """The default policy with non-zero weights."""
    learner = subjects.cloner(8)
    return learner.policy, bc.clone(subjects.init_state(learner, subjects.demonstrations(50)))


def test_network_agrees_on_copied_weights() -> None:
    policy, variables = clone()
    params = variables.params
    field = torch_subjects.torch_flow(policy, params).network
    rng = np.random.default_rng(0)
    x, t, obs = rng.normal(size=(5, 8, 2)), rng.uniform(size=5), rng.uniform(-1, 1, size=(5, 4))
    x, t, obs = (a.astype(np.float32) for a in (x, t, obs))
    ours = np.asarray(policy.network.apply({"params": params}, x, t, obs))
    theirs = field(torch.tensor(x), torch.tensor(t), torch.tensor(obs)).detach().numpy()
    assert np.abs(theirs).max() > 0.1
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_agreement_fails_on_other_weights() -> None:
    policy, variables = clone()
    flow = torch_subjects.torch_flow(policy, variables.params)
    torch_networks.copy_weights(randomise(variables.params, seed=5), flow.network)
    other = flow.sample(torch.ones(3, 4), torch.ones(3, 8, 2)).detach().numpy()
    ours = np.asarray(policy.transport(variables, jnp.ones((3, 4)), jnp.ones((3, 8, 2))))
    assert np.abs(other - ours).max() > 1e-2


def test_cloning_step_agrees() -> None:
    found = cloning.agreement(batch_size=32)
    assert found["loss"] < 1e-5
    assert found["gradient"] < 1e-4
    # Adam's first step divides each gradient by its own size: rounding shows where a gradient is tiny.
    assert found["step"] < 1e-2
    assert found["moving_average"] < 1e-2


def test_sampler_agrees() -> None:
    found = sampling.agreement(batch_size=16, steps=5)
    assert found["chunk_size"] > 0.5
    assert found["chunk"] < 1e-4


@pytest.mark.parametrize("step", [0, 50, 99, 100, 3000, 5999, 7000])
def test_learning_rate_agrees(step: int) -> None:
    options = subjects.cloner(8).options
    policy, variables = clone()
    flow = torch_subjects.torch_flow(policy, variables.params)
    data = torch_subjects.tensors(subjects.demonstrations(50)[0])
    cloner = peers.TorchCloner(flow, data, options, "eager")
    cloner.step_index = step
    unit = warmup_cosine(jnp.asarray(step), options.steps, options.warmup_steps, options.final_lr_fraction)
    assert cloner.learning_rate() == pytest.approx(float(unit) * options.learning_rate, rel=1e-5)


def test_torch_step_trains() -> None:
    learner, data = subjects.cloner(64, learning_rate=1e-2, warmup_steps=0), subjects.demonstrations(50)
    flow = torch_subjects.torch_flow(learner.policy, subjects.init_state(learner, data).params)
    torch.manual_seed(0)
    for kind in ("eager", "fused"):
        cloner = peers.TorchCloner(flow, torch_subjects.tensors(data[0]), learner.options, kind)
        before = cloner.ema[0].clone()
        losses = [cloner.step().item() for _ in range(60)]
        assert np.mean(losses[-10:]) < np.mean(losses[:10])
        assert (cloner.ema[0] - before).abs().max() > 0


def test_work_is_counted_by_hand() -> None:
    """84 inputs, three layers of 256, 16 outputs.

    first 84 x 256 = 21,504; rest 2 x 65,536 + 4,096 = 135,168; forward 2 (21,504 + 135,168) = 313,344;
    backward 2 x 21,504 + 4 x 135,168 = 583,680; biases 3 x 256 + 16 = 784.
    """
    policy, variables = clone()
    work = subjects.count_work(policy)
    assert (work.forward, work.backward) == (313_344, 583_680)
    assert work.parameters == sum(leaf.size for leaf in jax.tree.leaves(variables.params)) == 157_456
