"""What `benchmarks.torch_families` times: blocks of training steps, and samplers from host memory to host memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
import torch
from torch import Tensor, nn

from benchmarks.mirrors.networks import FiLMBlock
from benchmarks.mirrors.subjects import Built, tensors
from benchmarks.mirrors.transformer import AdaLNBlock, EncoderBlock
from mmbc_jax.core.types import Array, Key, Variables

BLOCKS = (AdaLNBlock, EncoderBlock, FiLMBlock)
LEARNING_RATE, WEIGHT_DECAY = 1e-4, 1e-4


def our_steps(built: Built, steps: int) -> Callable[[], Any]:
    """A function that runs `steps` training steps as one program and returns the variables after them."""
    optimiser = optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    hp = {name: jax.numpy.asarray(value) for name, value in built.hp.items()}

    def step(carry: Any, _: None) -> tuple[Any, None]:
        key, variables, state = carry
        key, key_loss = jax.random.split(key)

        def objective(params: Any) -> tuple[Array, Any]:
            loss = built.policy.loss(variables.replace(params=params), key_loss, built.batch, hp)
            return loss.total(), loss.stats

        grads, stats = jax.grad(objective, has_aux=True)(variables.params)
        updates, state = optimiser.update(grads, state, variables.params)
        params = optax.apply_updates(variables.params, updates)
        return (key, variables.replace(params=params, stats=stats), state), None

    program = jax.jit(lambda carry: jax.lax.scan(step, carry, None, length=steps)[0], donate_argnums=0)
    own = jax.tree.map(jax.numpy.copy, built.variables)
    holder = [(jax.random.key(0), own, optimiser.init(own.params))]

    def block() -> Variables:
        holder[0] = jax.block_until_ready(program(holder[0]))
        return holder[0][1]

    return block


def compile_blocks(policy: nn.Module) -> None:
    """`torch.compile` of the loss, or of each block where the network has many of a kind.

    Compiling by block is what PyTorch advises for such networks: equal blocks share one compilation, where the
    whole loss takes minutes on one core.
    """
    blocks = [module for module in policy.modules() if isinstance(module, BLOCKS)]
    torch._dynamo.config.recompile_limit = 64  # blocks of a U-Net differ in shape
    for module in blocks or [policy]:
        module.compile(dynamic=False)


def their_steps(built: Built, steps: int, compiled: bool) -> Callable[[], Any]:
    """A function that runs `steps` PyTorch training steps with fused AdamW, the loss compiled where asked."""
    module, data = built.mirror(), tensors(built.batch)
    options = {"lr": LEARNING_RATE, "weight_decay": WEIGHT_DECAY, "fused": True}
    optimiser = torch.optim.AdamW(module.parameters(), **options)
    if compiled:
        compile_blocks(module)

    def block() -> None:
        for _ in range(steps):
            optimiser.zero_grad(set_to_none=True)
            module(*data, *module.draw(data[1])).backward()
            optimiser.step()

    return block


def our_sampler(built: Built) -> Callable[[np.ndarray], np.ndarray]:
    """Observations [B, D] to chunks [B, H, A], host to host; the key is split on the device."""

    @jax.jit
    def act(key: Key, obs: Array) -> tuple[Key, Array]:
        key, key_base = jax.random.split(key)
        w = built.policy.base_distribution(built.variables, obs).sample(seed=key_base)
        return key, built.policy.transport(built.variables, obs, w)

    holder = [jax.random.key(0)]

    def sample(obs: np.ndarray) -> np.ndarray:
        holder[0], chunk = act(holder[0], obs)
        return np.asarray(chunk)

    return sample


class _Sampler(nn.Module):
    """The sampler as the forward pass of a module, which tracing with frozen weights needs."""

    def __init__(self, policy: nn.Module):
        super().__init__()
        self.policy = policy

    def forward(self, obs: Tensor, *noise: Tensor) -> Tensor:
        return self.policy.sample(obs, *noise)


def traced(policy: nn.Module, batch_size: int, obs_dim: int) -> Callable[..., Tensor]:
    """The sampler of a policy by `torch.jit.trace` with frozen weights, for `batch_size` observations [B, D]."""
    example = torch.zeros(batch_size, obs_dim), *policy.base(batch_size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shapes become constants, which is the purpose
        return torch.jit.freeze(torch.jit.trace(_Sampler(policy).eval(), example, check_trace=False))


def their_sampler(built: Built, batch_size: int, trace: bool) -> Callable[[np.ndarray], np.ndarray]:
    """The same in PyTorch, eager or by `torch.jit.trace` with frozen weights."""
    policy = built.mirror().eval().requires_grad_(False)
    run: Callable[..., Tensor] = policy.sample
    if trace:
        run = traced(policy, batch_size, built.policy.spec.obs_dim)

    def sample(obs: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return run(torch.from_numpy(obs), *policy.base(len(obs))).numpy()

    return sample
