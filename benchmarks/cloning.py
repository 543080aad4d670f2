"""The behavioural-cloning step: data indexing, loss, gradient, clipping, AdamW and moving average.

Ours is the program that a run executes: `runs.epoch.make_epoch` over one run, `sweep.mode` vmap, state
donated. It also carries the non-finite guard and the logged metrics, which the PyTorch loops leave out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch

from benchmarks import host, peak, subjects
from benchmarks.mirrors.cloner import TorchCloner
from benchmarks.mirrors.subjects import tensors, torch_flow
from benchmarks.timing import Contender, interleave
from mmbc_jax.core.types import Variables
from mmbc_jax.learners.bc import CloningLearner, Demonstrations
from mmbc_jax.runs.epoch import compile_program, make_epoch, stack_runs
from mmbc_jax.runs.mesh import Mesh

BATCHES = (256, 512)
OURS = "mmbc_jax"
_BLOCK_SECONDS = 0.25


def agreement(batch_size: int = 64) -> dict[str, float]:
    """How far the two implementations are apart on the same weights, batch, noise and times.

    Returns:
      The absolute difference of the losses; the root mean square difference of the gradients relative to
      that of the gradient, and of the parameters and their moving averages after one step relative to that
      of the step.
    """
    learner, data = subjects.cloner(batch_size), subjects.demonstrations(1000)
    policy, windows = learner.policy, data[0]
    state = subjects.init_state(learner, data)
    # Clones: the step below draws the same numbers from the same keys, which is the point here.
    _, key_batch, key_loss = jax.random.split(jax.random.clone(state.key), 3)
    index = jax.random.randint(key_batch, (batch_size,), 0, len(windows))
    key_noise, key_time = jax.random.split(jax.random.clone(key_loss))
    batch = windows.batch(index)
    x0 = policy.prior.distribution({}, batch.obs).sample(seed=key_noise)
    t = policy.draw_times(key_time, (batch_size,))
    loss, grads = jax.value_and_grad(
        lambda params: policy.loss(Variables(params, state.stats["policy"]), key_loss, batch, {}).total()
    )(state.params)
    after, _ = jax.jit(learner.train_step)(state, data)

    flow = torch_flow(policy, state.params)
    noise = tuple(torch.tensor(np.array(a)) for a in (x0, t))
    theirs = flow(*tensors(batch), *noise)
    theirs.backward()
    torch_grads = [param.grad.clone() for param in flow.parameters()]
    cloner = TorchCloner(flow, tensors(windows), learner.options, "eager")
    before = [param.detach().clone() for param in cloner.params]
    cloner.update(*tensors(batch), *noise)
    return {
        "loss": abs(float(loss) - theirs.item()),
        "gradient": _distance(policy, grads, torch_grads, torch_grads),
        "step": _distance(policy, after.params, cloner.params, _moved(before, cloner.params)),
        "moving_average": _distance(policy, after.ema, cloner.ema, _moved(before, cloner.ema)),
    }


def _moved(before: list[torch.Tensor], after: list[torch.Tensor]) -> list[torch.Tensor]:
    return [a.detach() - b for a, b in zip(after, before, strict=True)]


def _distance(policy: Any, ours: Any, theirs: list[torch.Tensor], scale: list[torch.Tensor]) -> float:
    """Root mean square difference over all parameters, in units of that of `scale`."""
    mirrored = list(torch_flow(policy, ours).parameters())
    difference = [(a - b).detach().flatten() for a, b in zip(mirrored, theirs, strict=True)]
    return float(torch.cat(difference).norm() / torch.cat([entry.flatten() for entry in scale]).norm())


def our_block(
    learner: CloningLearner, data: Demonstrations, steps: int
) -> tuple[Callable[[], Any], float, int]:
    """(a function that runs `steps` steps of the compiled epoch, compile seconds, scratch bytes)."""
    state = stack_runs([subjects.init_state(learner, data)])
    epoch = make_epoch(learner.train_step, 1, steps, Mesh(), learner.logs)
    program = compile_program(epoch, state, data, donate=True)
    holder = [state]

    def block() -> None:
        holder[0], metrics = program(holder[0], data)
        jax.block_until_ready((holder[0], metrics))

    return block, program.compile_seconds, program.temp_bytes


def their_block(
    kind: str, learner: CloningLearner, data: Demonstrations, steps: int
) -> tuple[Callable[[], Any], float]:
    """(a function that runs `steps` PyTorch steps, seconds of the first step)."""
    flow = torch_flow(learner.policy, subjects.init_state(learner, data).params)
    cloner = TorchCloner(flow, tensors(data[0]), learner.options, kind)
    start = time.perf_counter()
    cloner.step()
    first = time.perf_counter() - start

    def block() -> None:
        for _ in range(steps):
            cloner.step()

    return block, first


def measure_batch(batch_size: int, cores: int, rounds: int, copy_gb_per_s: float) -> dict[str, Any]:
    """Times one batch size on the pinned cores."""
    learner, data = subjects.cloner(batch_size), subjects.demonstrations()
    steps = max(10, round(_BLOCK_SECONDS / (2e-5 * batch_size)))
    ours, compile_seconds, temp_bytes = our_block(learner, data, steps)
    contenders = [Contender(OURS, ours, steps)]
    first_step, left_out = {}, {}
    for kind in ("eager", "fused", "compile"):
        name = f"torch {kind}"
        try:
            block, first_step[name] = their_block(kind, learner, data, steps)
        except Exception as error:  # torch.compile needs a C++ compiler; its errors share no base class
            left_out[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
            continue
        contenders.append(Contender(name, block, steps))
    work = subjects.count_work(learner.policy)
    gflop = 1e-9 * (work.forward + work.backward) * batch_size
    samples = interleave([*contenders, *peak.contenders()], rounds)
    result = peak.summarise(samples, OURS, {contender.name: gflop for contender in contenders}, cores)
    state_bytes = 4 * work.parameters * 10  # read and write: parameters, 2 moments, average; gradient
    floor = max(gflop / result["peak_gflops"]["median"], 1e-9 * state_bytes / copy_gb_per_s)
    return {
        "batch_size": batch_size,
        "steps_per_block": steps,
        **result,
        "gflop_per_step": gflop,
        "state_mb_per_step": state_bytes / 1e6,
        "floor_seconds": floor,
        "compile_seconds": {OURS: compile_seconds},
        "first_step_seconds": first_step,
        "temp_bytes": temp_bytes,
        "left_out": left_out,
    }


def measure(cores: int, quick: bool) -> dict[str, Any]:
    """Everything about cloning on the pinned cores.

    Args:
      cores: already pinned.
      quick: few rounds at batch 256 only; checks that it runs, says little about speed.

    Returns:
      The record.
    """
    torch.set_num_threads(cores)
    found = agreement()
    copied = host.copy_rate()
    sizes, rounds = (BATCHES[:1], 3) if quick else (BATCHES, 15)
    batches = [measure_batch(size, cores, rounds, copied) for size in sizes]
    jax.clear_caches()
    return {"agreement": found, "copy_gb_per_s": copied, "batches": batches, "memory": host.memory()}
