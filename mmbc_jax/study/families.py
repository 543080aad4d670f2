"""The policy families of the failure study, with the settings they are compared at."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from mmbc_jax.core.config import plugin
from mmbc_jax.training.defaults import base_config

# name in tables: (policy, its fields, prior, (sampler, its fields))
FAMILIES: dict[str, tuple[str, dict[str, Any], str, tuple[str, dict[str, Any]]]] = {
    "deterministic": ("mse", {}, "normal", ("euler", {})),
    "gaussian": ("gaussian", {}, "normal", ("euler", {})),
    "mdn": ("mdn", {"num_components": 32}, "normal", ("euler", {})),
    "bet": ("bet", {"num_bins": 64}, "normal", ("euler", {})),
    "vq": ("vq", {"code_prior": "learned"}, "normal", ("euler", {})),
    "cvae": ("cvae", {"beta": 0.01}, "normal", ("euler", {})),
    "wae": ("wae", {}, "normal", ("euler", {})),
    "wae learned prior": ("wae", {}, "latent_flow", ("euler", {})),
    "latent flow": ("latent_flow", {}, "normal", ("euler", {})),
    "ibc": ("ibc", {}, "normal", ("euler", {})),
    "diffusion": ("diffusion", {"train_steps": 100}, "normal", ("ddim", {"steps": 100})),
    "flow": ("flow", {}, "normal", ("euler", {"steps": 10})),
    "flow OT": ("flow", {"coupling": "ot"}, "normal", ("euler", {"steps": 10})),
    "mean flow": ("mean_flow", {"steps": 2}, "normal", ("euler", {})),
    "mixture flow": ("mixture_flow", {"hidden": (128, 128)}, "normal", ("heun", {"steps": 4})),
    "mixture flow .6": (
        "mixture_flow",
        {"hidden": (128, 128), "temperature": 0.6},
        "normal",
        ("heun", {"steps": 4}),
    ),
}
LATENT = ("vq", "cvae", "wae", "latent_flow")
CHUNK = 60  # the synthetic tasks are played open loop: one chunk is the episode


def clone(env: ConfigDict, family: str, **policy: Any) -> ConfigDict:
    """A configuration that clones one family on an environment's own expert.

    Args:
      env: section of the environment.
      family: a key of `FAMILIES`.
      **policy: fields of the policy that differ from the family's.
    """
    name, fields, prior, (sampler, options) = FAMILIES[family]
    config = base_config()
    config.stages = ("bc",)
    config.seeds = 3
    config.env = env
    config.policy = plugin("policy", name, **{"fourier_octaves": 2, **fields, **policy})
    config.prior = plugin("prior", prior)
    config.sampler = plugin("sampler", sampler, **options)
    config.diagnostics = ("all",)
    return config


def open_loop(
    task: str, num_modes: int, family: str, *, noise: float | None = None, **policy: Any
) -> ConfigDict:
    """Paper A's protocol: one chunk of 60 actions from the start, never replanned, 1000 demonstrations.

    Args:
      task: `radial`, `corridor`, `circle`, `conditional_circle` or `sequential`.
      num_modes: K, where the task has a choice.
      family: a key of `FAMILIES`.
      noise: standard deviation of the demonstrated positions; None for the task's.
      **policy: fields of the policy that differ from the family's.
    """
    fields: dict[str, Any] = {} if noise is None else {"noise": noise}
    if task in ("radial", "corridor"):
        fields["num_modes"] = num_modes
    if FAMILIES[family][0] in LATENT:
        policy = {"latent_dim": 4 if num_modes >= 16 else 2, **policy}
    config = clone(plugin("env", task, **fields), family, **policy)
    config.chunk.update({"predict": CHUNK, "execute": CHUNK, "coordinates": "path"})
    config.data.update({"episodes": 1000, "noise": 0.0, "windows": "first"})
    config.bc.update({"steps": 3000, "batch_size": 256, "learning_rate": 1e-3, "ema_decay": 0.998})
    config.evaluation.update({"episodes": 1000, "samples": 16})
    return config


def closed_loop(task: str, chunk: int, family: str, **policy: Any) -> ConfigDict:
    """The blog's protocol: a chunk is executed whole, then the policy looks again.

    Args:
      task: `smooth_path` or `high_low`.
      chunk: actions predicted and executed at once.
      family: a key of `FAMILIES`.
      **policy: fields of the policy that differ from the family's.
    """
    config = clone(plugin("env", task), family, **policy)
    config.chunk.update({"predict": chunk, "execute": chunk})
    config.data.update({"episodes": 50, "noise": 0.0})
    config.bc.update({"steps": 2000, "batch_size": 128, "learning_rate": 1e-3, "ema_decay": 0.99})
    config.evaluation.update({"episodes": 200, "samples": 16})
    config.diagnostics = ("drift", "separation")
    return config
