"""The subjects of `benchmarks.torch_families`: sizes, our policies, and the same policies in PyTorch.

| subject | whose size |
|---|---|
| flow / mlp | FQL: 4 x 512 |
| diffusion / mlp | DPPO on Avoid: 3 x 512 residual ReLU, chunk 4 x 2, 20 noise levels |
| diffusion / unet | small Diffusion Policy: channels 64, 128, 256, chunk 16 x 2, 20 observations |
| cvae / transformer | small ACT: width 128, 4 heads, latent 32, chunk 16; 5 blocks in encoder and in decoder |
| vq / transformer | VQ-BeT on Push-T: 6 blocks of width 120 with 6 heads, two codebooks of 16 |

The sizes are theirs, the networks ours on both sides. The hidden layer of our transformer's blocks has two widths
where ACT's has four; ten such blocks have about the parameters of its nine.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.mirrors.networks import MLP, ChunkMLP, ChunkUNet, copy_weights
from benchmarks.mirrors.policies import CVAE, VQ, Diffusion, Flow
from benchmarks.mirrors.transformer import ChunkTransformer, TransformerEncoder, in_blocks
from benchmarks.weights import random_like
from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.types import Batch, Key, PolicySpec, PyTree, Variables
from mmbc_jax.data.windows import Windows
from mmbc_jax.policies._codebook import init_codebook
from mmbc_jax.policies._latent import diagonal_gaussian
from mmbc_jax.policies.flow import FlowPolicy


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A family on a backbone at one size, compared by identity.

    Attributes:
      label: "family / backbone".
      policy: name of the plug-in.
      spec: sizes of the task.
      options: of the plug-in.
      samplers: (name, steps) of each sampler that is timed.
      steps: training steps per block.
    """

    label: str
    policy: str
    spec: PolicySpec
    options: dict[str, Any]
    samplers: tuple[tuple[str, int], ...] = (("one pass", 1),)
    steps: int = 4


PUSHT = PolicySpec(obs_dim=20, action_dim=2, chunk_len=16)
SUBJECTS = (
    Subject(
        "flow / mlp",
        "flow",
        PolicySpec(20, 2, 1),
        {"hidden": (512,) * 4},
        (("euler", 10),),
        steps=10,
    ),
    Subject(
        "diffusion / mlp",
        "diffusion",
        PolicySpec(4, 2, 4),
        {"hidden": (512,) * 3, "residual": True, "activation": "relu", "time_dim": 16, "train_steps": 20},
        (("ddim", 10), ("ddpm", 20)),
        steps=10,
    ),
    Subject(
        "diffusion / unet",
        "diffusion",
        PUSHT,
        {"backbone": "unet", "channels": (64, 128, 256), "width": 128},
        (("ddim", 10),),
    ),
    Subject(
        "cvae / transformer",
        "cvae",
        PUSHT,
        {"backbone": "transformer", "width": 128, "depth": 5, "heads": 4, "latent_dim": 32},
    ),
    Subject(
        "vq / transformer",
        "vq",
        PUSHT,
        {
            "backbone": "transformer",
            "width": 120,
            "depth": 6,
            "heads": 6,
            "latent_dim": 128,
            "code_prior": "learned",
            "prior_hidden": (1024, 1024),
        },
    ),
)


@dataclasses.dataclass(frozen=True)
class Built:
    """One subject, ready to run on both sides.

    Attributes:
      policy: ours.
      hp: its traced scalars.
      variables: ours, every parameter non-zero.
      batch: obs [B, D], chunk [B, H, A], mask [B, H].
      mirror: makes the PyTorch policy with the same weights and codes.
    """

    policy: Any
    hp: dict[str, Any]
    variables: Variables
    batch: Batch
    mirror: Callable[[], nn.Module]


def make_ours(subject: Subject, sampler: tuple[str, int]) -> tuple[Any, dict[str, float]]:
    """(our policy with that sampler, its traced scalars)."""
    name, steps = sampler
    cfg = plugin("policy", subject.policy, fourier_octaves=0, **subject.options)
    prior = functools.partial(registry.build, "prior", plugin("prior", "normal"), spec=subject.spec)
    chosen = None if name == "one pass" else registry.build("sampler", plugin("sampler", name, steps=steps))
    policy = registry.build("policy", cfg, subject.spec, prior=prior, sampler=chosen)
    return policy, {field: float(cfg[field]) for field in registry.find("policy", subject.policy).hparams}


@functools.cache
def random_variables(subject: Subject) -> Variables:
    """Variables with every parameter random, so that no layer is zero; codes where k-means puts them."""
    policy, _ = make_ours(subject, subject.samplers[0])
    rng = np.random.default_rng(0)
    draw = functools.partial(rng.uniform, -1.0, 1.0)
    chunks = jnp.asarray(draw((128, *policy.spec.chunk_shape)), jnp.float32)
    batch = Batch(
        jnp.asarray(draw((128, policy.spec.obs_dim)), jnp.float32), chunks, jnp.ones(chunks.shape[:2])
    )
    shapes = jax.eval_shape(policy.init, jax.random.key(0), batch)

    params = random_like(shapes.params)
    if "codebook" not in shapes.stats:
        return Variables(params, {"prior": {}} if "prior" in shapes.stats else {})
    z = jax.jit(policy.encode)(params, batch.obs, batch.chunk)
    place = jax.jit(init_codebook, static_argnums=(2, 3))
    shape = (policy.options.layers, policy.options.num_codes)
    return Variables(params, {"codebook": place(jax.random.key(1), z, *shape)})


def build(subject: Subject, batch_size: int, sampler: tuple[str, int] | None = None) -> Built:
    """The subject with random weights and a random batch of `batch_size`."""
    name, steps = sampler = sampler or subject.samplers[0]
    policy, hp = make_ours(subject, sampler)
    rng = np.random.default_rng(0)
    shapes = (subject.spec.obs_dim,), subject.spec.chunk_shape
    obs, chunk = (jnp.asarray(rng.uniform(-1, 1, (batch_size, *s)), jnp.float32) for s in shapes)
    mask = jnp.ones((batch_size, subject.spec.chunk_len)).at[::7, -1:].set(0.0)
    batch = Batch(obs, chunk, mask if subject.spec.chunk_len > 1 else jnp.ones_like(mask))
    variables = random_variables(subject)

    def mirror() -> nn.Module:
        module = make_policy(policy, hp, steps, name == "ddpm")
        copy_weights(tree(policy, variables.params), module)
        if "codebook" in variables.stats:
            for field in ("codes", "share", "total"):
                getattr(module, field).copy_(_tensor(getattr(variables.stats["codebook"], field)))
        return module

    return Built(policy, hp, variables, batch, mirror)


def tree(policy: Any, params: PyTree) -> PyTree:
    """Parameters, or anything of their structure, under the names of the PyTorch policy."""
    if not hasattr(policy, "encoder"):
        return {"network": params}
    return {**params, "encoder": in_blocks(params["encoder"])}


def _tensor(value: Any) -> Tensor:
    return torch.tensor(np.asarray(value))


def tensors(batch: Batch | Windows) -> tuple[Tensor, ...]:
    """obs, chunk and mask."""
    return _tensor(batch.obs), _tensor(batch.chunk), _tensor(batch.mask)


def training_noise(built: Built, key: Key) -> tuple[Tensor, ...]:
    """What our loss draws from `key`, as the PyTorch policy takes it."""
    policy, batch = built.policy, built.batch
    key = jax.random.clone(key)  # the same numbers again are the point
    if hasattr(policy.options, "layers"):
        shape = (policy.options.layers, policy.options.num_codes)
        return (_tensor(jax.random.randint(jax.random.split(key)[1], shape, 0, len(batch.obs))),)
    if hasattr(policy, "encoder"):
        zeros = jnp.zeros((len(batch.obs), policy.options.latent_dim))
        return (_tensor(diagonal_gaussian(zeros, 1.0).sample(seed=key)),)
    key_noise, key_time = jax.random.split(key)
    x0 = policy.prior.distribution({}, batch.obs).sample(seed=key_noise)
    return _tensor(x0), _tensor(policy.draw_times(key_time, batch.chunk.shape[:-2]))


def sampling_noise(built: Built, w: PyTree) -> tuple[Tensor, ...]:
    """A draw `w` of our base distribution, as the PyTorch policy takes it."""
    if isinstance(w, dict):
        return _tensor(w["x0"]), _tensor(w["path"])
    if hasattr(built.policy.options, "layers"):  # Gumbel noise that leaves no other choice
        return (1e6 * _tensor(jax.nn.one_hot(w, built.policy.options.num_codes)),)
    return (_tensor(w),)


def make_network(network: Any, spec: PolicySpec, extra: int = 0) -> nn.Module:
    """The backbone `network` of `mmbc_jax.nn` in PyTorch, for observation and `extra` further inputs.

    Raises:
      ValueError: Fourier features of the observation in front of another backbone than the MLP.
    """
    kind, act = type(network).__name__, network.activation
    if kind == "ChunkMLP":
        sizes = (network.hidden, network.time_dim, act, network.residual, network.obs_encoder.octaves)
        return ChunkMLP(spec.obs_dim, spec.chunk_shape, *sizes)
    if network.obs_encoder.octaves:
        raise ValueError("of the PyTorch networks only the MLP has Fourier features")
    if kind == "ChunkUNet":
        return ChunkUNet(
            spec.obs_dim, spec.chunk_shape, network.channels, network.width, network.time_dim, act
        )
    sizes = (network.width, network.depth, network.heads, act)
    if kind == "TransformerEncoder":
        return TransformerEncoder(spec.obs_dim, spec.chunk_shape, network.out_dim, *sizes)
    return ChunkTransformer(spec.obs_dim + extra, spec.chunk_shape, *sizes)


def make_policy(policy: Any, hp: dict[str, float], steps: int, ancestral: bool) -> nn.Module:
    """`policy` of `mmbc_jax.policies` in PyTorch, weights not yet copied.

    Args:
      policy: ours.
      hp: its traced scalars.
      steps: of the sampler.
      ancestral: whether that is DDPM.
    """
    kind, spec, options = type(policy).__name__, policy.spec, policy.options
    if kind == "FlowPolicy":
        return Flow(make_network(policy.network, spec), spec.chunk_shape, steps)
    if kind == "DiffusionPolicy":
        chosen = {name: getattr(options, name) for name in ("train_steps", "min_alpha", "clip")}
        return Diffusion(make_network(policy.network, spec), spec.chunk_shape, steps, ancestral, chosen)
    network = make_network(policy.network, spec, options.latent_dim)
    encoder = make_network(policy.encoder, spec)
    if kind == "CVAEPolicy":
        return CVAE(network, encoder, options.latent_dim, hp["beta"])
    entries = options.layers * (options.num_codes + 1)
    prior = MLP((entries + spec.obs_dim, *options.prior_hidden, options.num_codes))
    shape = (options.layers, options.num_codes, options.latent_dim)
    chosen = {"commitment": hp["commitment"], "decay": options.decay, "revive_below": options.revive_below}
    return VQ(network, encoder, prior, shape, chosen)


def torch_flow(policy: FlowPolicy, params: PyTree) -> Flow:
    """The flow policy in PyTorch with the same weights."""
    flow = make_policy(policy, {}, policy.sampler.steps, ancestral=False)
    copy_weights(params, flow.network)
    return flow
