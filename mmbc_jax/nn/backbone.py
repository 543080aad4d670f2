"""The networks of policies, behind one interface: a backbone maps (noisy chunk, time, observation) to a chunk.

A backbone is a flax module with

  encode(obs [..., D], extra [..., E] or None) -> context, any pytree with leading axes [...]
  decode(x [..., H, I] or None, t [] or [...] or None, context) -> [..., H, O]

and `__call__(x, t, obs, extra)` for both. `extra` are further inputs such as a latent; they are used as they
are, the observation through `fourier_features`. Samplers call `encode` once and `decode` many times. Whoever
needs no noisy chunk (a decoder, a regression) leaves `x` and `t` out, always.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flax import linen as nn
from ml_collections import ConfigDict

from mmbc_jax.core.config import check_choice, check_range, check_widths
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.types import Array, Key, PyTree
from mmbc_jax.nn.chunk_encoder import MLPEncoder, TransformerEncoder, UNetEncoder
from mmbc_jax.nn.chunk_mlp import ChunkMLP
from mmbc_jax.nn.chunk_transformer import ChunkTransformer
from mmbc_jax.nn.chunk_unet import ChunkUNet
from mmbc_jax.nn.embedding import fourier_features
from mmbc_jax.nn.mlp import ACTIVATIONS, MLP

OPTIONS = {
    "mlp": ("hidden", "layer_norm", "residual", "spectral_norm"),
    "transformer": ("width", "depth", "heads"),
    "unet": ("width", "channels"),
}
COMMON_OPTIONS = ("activation", "fourier_octaves")
NETWORKS: dict[str, Any] = {"mlp": ChunkMLP, "transformer": ChunkTransformer, "unet": ChunkUNet}
ENCODERS: dict[str, Any] = {"mlp": MLPEncoder, "transformer": TransformerEncoder, "unet": UNetEncoder}
BACKBONES = tuple(NETWORKS)


class Head(MLP):
    """An MLP on `fourier_features` of the observation, for what is no chunk.

    Attributes:
      octaves: of the features.
    """

    octaves: int = 0

    def __call__(self, obs: Array) -> Array:
        """Maps [..., D] to [..., out]."""
        return super().__call__(fourier_features(obs, self.octaves))


def network_config() -> dict[str, Any]:
    """Defaults of the network options that every policy shares.

    `backbone` is one of `BACKBONES`. `hidden`, `layer_norm`, `residual` and `spectral_norm` (bound of each
    layer's, 0 for none) belong to the MLP; `depth` and `heads` to the transformer and `channels` (of each
    level) to the U-Net, of which both have `width`, that of the condition vector and of the transformer's
    tokens. `activation` and `fourier_octaves` (octaves of the observation's features) belong to all,
    `time_dim` to all that see a generation time.
    """
    return {
        "backbone": "mlp",
        "hidden": (256, 256, 256),
        "activation": "gelu",
        "layer_norm": False,
        "residual": False,
        "spectral_norm": 0.0,
        "width": 256,
        "depth": 4,
        "heads": 8,
        "channels": (64, 128, 256),
        "fourier_octaves": 4,
        "time_dim": 32,
    }


def check_network(cfg: ConfigDict) -> None:
    """Raises ConfigError where an option of `network_config` cannot work."""
    check_choice("policy.backbone", cfg.backbone, BACKBONES)
    for name in ("hidden", "channels"):
        check_widths(f"policy.{name}", cfg[name])
    check_range("policy.spectral_norm", cfg.spectral_norm, 0.0)
    if cfg.spectral_norm > 0.0 and (cfg.backbone != "mlp" or cfg.layer_norm):
        raise ConfigError("policy.spectral_norm", cfg.spectral_norm, "0, or backbone mlp without layer_norm")
    check_range("policy.width", cfg.width, 1)
    check_range("policy.depth", cfg.depth, 1)
    check_range("policy.heads", cfg.heads, 1)
    if cfg.backbone == "transformer" and (cfg.width % 2 or cfg.width % cfg.heads):
        raise ConfigError("policy.width", cfg.width, f"an even multiple of policy.heads = {cfg.heads}")
    check_choice("policy.activation", cfg.activation, ACTIVATIONS)
    check_range("policy.fourier_octaves", cfg.fourier_octaves, 0, 16)
    if cfg.time_dim < 2 or cfg.time_dim % 2:
        raise ConfigError("policy.time_dim", cfg.time_dim, "an even number, at least 2")


def make_backbone(cfg: ConfigDict, chunk_len: int, out_dim: int) -> nn.Module:
    """The configured backbone with output [..., H, O].

    Args:
      cfg: a section with the fields of `network_config`.
      chunk_len: H.
      out_dim: O, outputs per action step.

    Raises:
      ConfigError: an option cannot work.
    """
    check_network(cfg)
    return NETWORKS[cfg.backbone]((chunk_len, out_dim), **_options(cfg), time_dim=cfg.time_dim)


def make_head(cfg: ConfigDict, out: int) -> Head:
    """An MLP from the observation to [..., out], whatever the backbone; 0 at first."""
    mlp = (cfg.activation, cfg.layer_norm, cfg.residual)
    return Head(tuple(cfg.hidden), out, *mlp, zero_last=True, octaves=cfg.fourier_octaves)


def make_chunk_encoder(cfg: ConfigDict, out_dim: int) -> nn.Module:
    """The configured network from a chunk and its observation to one vector.

    Its last layer is not zero at first, as that of a backbone is.

    Args:
      cfg: a section with the fields of `network_config`.
      out_dim: size of the output.

    Returns:
      A module that maps chunk [..., H, A] and obs [..., D] to [..., out_dim].

    Raises:
      ConfigError: an option cannot work.
    """
    check_network(cfg)
    return ENCODERS[cfg.backbone](out_dim, **_options(cfg))


def _options(cfg: ConfigDict) -> dict[str, Any]:
    values = {name: cfg[name] for name in (*OPTIONS[cfg.backbone], *COMMON_OPTIONS)}
    return {
        name: tuple(value) if isinstance(value, (list, tuple)) else value for name, value in values.items()
    }


def init_backbone(
    module: nn.Module,
    key: Key,
    obs: Array,
    x: Array | None = None,
    t: Array | None = None,
    extra: Array | None = None,
) -> PyTree:
    """Fresh parameters for inputs of these shapes; what is None here must be None in every later call."""
    return module.init(key, x, t, obs, extra)["params"]


def bind(module: Any, params: PyTree, obs: Array, extra: Array | None = None) -> Callable[..., Array]:
    """The backbone as a function of (x, t) for fixed conditions.

    Args:
      module: from `make_backbone`.
      params: its parameters.
      obs: [..., D].
      extra: [..., E] or None.

    Returns:
      A function of x [..., H, I] and t [] or [...], both None where left out, that
      returns [..., H, O]; the conditions are encoded once, here.
    """
    context = module.apply({"params": params}, obs, extra, method=module.encode)

    def predict(x: Array | None = None, t: Array | None = None) -> Array:
        return module.apply({"params": params}, x, t, context, method=module.decode)

    return predict
