"""Latency of one sampled chunk: observation from host memory in, chunk back in host memory.

Both sides draw x0, encode the observation once and take the same Euler steps on the same grid. Ours is
`policy.transport` behind `policy.base_distribution` under `jax.jit`, the key split on the device.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch

from benchmarks import host, peak, subjects
from benchmarks.mirrors.contenders import traced
from benchmarks.mirrors.subjects import torch_flow
from benchmarks.timing import Contender, interleave
from mmbc_jax.core.types import Array, Key, Variables
from mmbc_jax.learners.bc import clone
from mmbc_jax.policies.flow import FlowPolicy

CASES = ((1, 5), (1, 10), (1024, 5), (1024, 10))  # (batch, Euler steps)
OURS = "mmbc_jax"
_BLOCK_SECONDS = 0.15
Sample = Callable[[np.ndarray], np.ndarray]


def agreement(batch_size: int = 64, steps: int = 10) -> dict[str, float]:
    """Largest absolute difference of the chunks for the same weights, observations and x0."""
    policy, variables = _policy(steps)
    obs = np.random.default_rng(0).uniform(-1, 1, (batch_size, 4)).astype(np.float32)
    x0 = policy.base_distribution(variables, jax.numpy.asarray(obs)).sample(seed=jax.random.key(3))
    ours = np.asarray(policy.transport(variables, jax.numpy.asarray(obs), x0))
    flow = torch_flow(policy, variables.params)
    with torch.no_grad():
        theirs = flow.sample(torch.tensor(obs), torch.tensor(np.asarray(x0))).numpy()
    return {"chunk": float(np.abs(ours - theirs).max()), "chunk_size": float(np.abs(theirs).max())}


def _policy(steps: int) -> tuple[FlowPolicy, Variables]:
    learner = subjects.cloner(256, steps)
    return learner.policy, clone(subjects.init_state(learner, subjects.demonstrations(1000)))


def our_sampler(steps: int) -> Sample:
    """The jitted policy as a function from host to host."""
    policy, variables = _policy(steps)

    @jax.jit
    def act(key: Key, obs: Array) -> tuple[Key, Array]:
        key, key_base = jax.random.split(key)
        w = policy.base_distribution(variables, obs).sample(seed=key_base)
        return key, policy.transport(variables, obs, w)

    holder = [jax.random.key(0)]

    def sample(obs: np.ndarray) -> np.ndarray:
        holder[0], chunk = act(holder[0], obs)
        return np.asarray(chunk)

    return sample


def their_sampler(kind: str, steps: int, batch_size: int) -> Sample:
    """PyTorch from host to host: "eager", "trace" (`torch.jit.trace`) or "compile" (`torch.compile`)."""
    policy, variables = _policy(steps)
    flow = torch_flow(policy, variables.params).eval().requires_grad_(False)
    run: Callable[..., torch.Tensor] = flow.sample
    if kind == "trace":
        run = traced(flow, batch_size, policy.spec.obs_dim)
    elif kind == "compile":
        run = torch.compile(flow.sample)

    def sample(obs: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return run(torch.from_numpy(obs), *flow.base(len(obs))).numpy()

    return sample


def products(batch_size: int, steps: int) -> float:
    """GFLOP of one call: the network at every Euler step, the observation's part once."""
    policy, variables = _policy(steps)
    obs, x0 = (jax.numpy.zeros((batch_size, *shape)) for shape in ((4,), policy.spec.chunk_shape))
    return peak.count_products(policy.transport, variables, obs, x0)


def measure_case(batch_size: int, steps: int, cores: int, rounds: int) -> dict[str, Any]:
    """Times one (batch, steps) on the pinned cores; unit: one call."""
    obs = np.random.default_rng(0).uniform(-1, 1, (batch_size, 4)).astype(np.float32)
    makers: dict[str, Callable[[], Sample]] = {OURS: lambda: our_sampler(steps)}
    for kind in ("eager", "trace", "compile"):
        makers[f"torch {kind}"] = lambda kind=kind: their_sampler(kind, steps, batch_size)
    contenders, first_call, left_out = [], {}, {}
    for name, make in makers.items():
        start = time.perf_counter()
        try:
            sample = make()
            assert np.isfinite(sample(obs)).all()
        except Exception as error:  # as in `cloning.measure_batch`
            if name == OURS:
                raise
            left_out[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
            continue
        first_call[name] = time.perf_counter() - start
        calls = _calls(sample, obs)
        contenders.append(Contender(name, _block(sample, obs, calls), calls))
    samples = interleave([*contenders, *peak.contenders()], rounds)
    gflop = dict.fromkeys((contender.name for contender in contenders), products(batch_size, steps))
    return {
        "batch_size": batch_size,
        "euler_steps": steps,
        **peak.summarise(samples, OURS, gflop, cores),
        "first_call_seconds": first_call,
        "left_out": left_out,
    }


def _block(sample: Sample, obs: np.ndarray, calls: int) -> Callable[[], None]:
    def block() -> None:
        for _ in range(calls):
            sample(obs)

    return block


def _calls(sample: Sample, obs: np.ndarray) -> int:
    """How many calls fill a block."""
    for _ in range(3):
        sample(obs)
    start = time.perf_counter()
    for _ in range(3):
        sample(obs)
    return max(3, round(3 * _BLOCK_SECONDS / (time.perf_counter() - start)))


def measure(cores: int, quick: bool) -> dict[str, Any]:
    """Everything about sampling on the pinned cores; `quick` as in `cloning.measure`."""
    torch.set_num_threads(cores)
    found = agreement()
    cases = CASES[:1] if quick else CASES
    return {
        "agreement": found,
        "cases": [measure_case(batch, steps, cores, 3 if quick else 15) for batch, steps in cases],
        "memory": host.memory(),
    }
