"""The networks of policies, behind one interface: a backbone maps (noisy chunk, time, observation) to a chunk.

A backbone is a flax module with

  observe(obs) -> features [..., F]
  encode(features [..., F], extra [..., E] or None) -> context, any pytree with leading axes [...]
  decode(x [..., H, I] or None, t [] or [...] or None, context) -> [..., H, O]

and `__call__(x, t, obs, extra)` for all three. `extra` are further inputs such as a latent; they are used as they
are, the observation through an `ObsEncoder`. Samplers observe and encode once and decode many times. Whoever
needs no noisy chunk (a decoder, a regression) leaves `x` and `t` out, always.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from flax import linen as nn

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.types import Array, Key, PolicySpec, PyTree
from mmbc_jax.nn.chunk_encoder import MLPEncoder, TransformerEncoder, UNetEncoder
from mmbc_jax.nn.chunk_mlp import ChunkMLP
from mmbc_jax.nn.chunk_transformer import ChunkTransformer
from mmbc_jax.nn.chunk_unet import ChunkUNet
from mmbc_jax.nn.image_encoder import ImageEncoder
from mmbc_jax.nn.mlp import ACTIVATIONS, MLP
from mmbc_jax.nn.obs_encoder import ObsEncoder

OPTIONS = {
    "mlp": ("hidden", "layer_norm", "residual", "spectral_norm"),
    "transformer": ("width", "depth", "heads"),
    "unet": ("width", "channels"),
}
NETWORKS: dict[str, Any] = {"mlp": ChunkMLP, "transformer": ChunkTransformer, "unet": ChunkUNet}
ENCODERS: dict[str, Any] = {"mlp": MLPEncoder, "transformer": TransformerEncoder, "unet": UNetEncoder}
BACKBONES = tuple(NETWORKS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkOptions(Options):
    """The network options that every policy shares."""

    backbone: str = option("mlp", "kind of the network", choices=BACKBONES)
    hidden: tuple[int, ...] = option((256, 256, 256), "mlp: widths of the hidden layers", low=1, filled=True)
    activation: str = option("gelu", "between the layers", choices=tuple(ACTIVATIONS))
    layer_norm: bool = option(False, "mlp: normalise before each activation")
    residual: bool = option(False, "mlp: skip connections between hidden layers of equal width")
    spectral_norm: float = option(0.0, "mlp: bound of each layer's spectral norm; 0 for none", low=0.0)
    width: int = option(256, "transformer, unet: of the condition vector and of the tokens", low=1)
    depth: int = option(4, "transformer: blocks", low=1, high=256)
    heads: int = option(8, "transformer: heads of each attention", low=1)
    channels: tuple[int, ...] = option((64, 128, 256), "unet: channels of each level", low=1, filled=True)
    fourier_octaves: int = option(4, "octaves of the observation's Fourier features", low=0, high=16)
    image_channels: tuple[int, ...] = option(
        ImageEncoder.channels, "widths of the stages of an observed image's encoder", low=1, filled=True
    )
    image_features: int = option(ImageEncoder.features, "size of what an observed image becomes", low=1)
    image_patch: int = option(
        ImageEncoder.patch, "pixels a side of the patches that such an encoder starts from", low=1, high=64
    )
    time_dim: int = option(32, "size of the time embedding, even, where there is a generation time", low=2)

    def check(self) -> None:
        """Raises ConfigError where options do not go together."""
        if self.spectral_norm > 0.0 and (self.backbone != "mlp" or self.layer_norm):
            raise self.error("spectral_norm", "0, or backbone mlp without layer_norm")
        if self.backbone == "transformer" and (self.width % 2 or self.width % self.heads):
            raise self.error("width", f"an even multiple of {self.section}.heads = {self.heads}")
        if self.time_dim % 2:
            raise self.error("time_dim", "an even number, at least 2")
        if any(width % ImageEncoder.groups for width in self.image_channels):
            raise self.error("image_channels", f"multiples of {ImageEncoder.groups}")

    def obs_encoder(self, spec: PolicySpec) -> ObsEncoder:
        """The encoder of observations in front of a network."""
        return ObsEncoder(
            spec.obs, self.fourier_octaves, self.image_channels, self.image_features, self.image_patch
        )


class Head(MLP):
    """An MLP on the features of the observation, for what is no chunk.

    Attributes:
      obs_encoder: makes features of an observation.
    """

    obs_encoder: ObsEncoder = dataclasses.field(kw_only=True)

    def __call__(self, obs: Obs) -> Array:
        """Maps an observation with leading axes [...] to [..., out]."""
        return super().__call__(self.obs_encoder(obs))


def make_backbone(options: NetworkOptions, spec: PolicySpec, out_dim: int) -> nn.Module:
    """The configured backbone with output [..., H, O].

    Args:
      options: of the network.
      spec: of the policy: H, and what an observation looks like.
      out_dim: O, outputs per action step.
    """
    event_shape = (spec.chunk_len, out_dim)
    network = NETWORKS[options.backbone]
    return network(options.obs_encoder(spec), event_shape, **_chosen(options), time_dim=options.time_dim)


def make_head(options: NetworkOptions, spec: PolicySpec, out: int) -> Head:
    """An MLP from the observation to [..., out], whatever the backbone; 0 at first."""
    mlp = (options.activation, options.layer_norm, options.residual)
    return Head(options.hidden, out, *mlp, zero_last=True, obs_encoder=options.obs_encoder(spec))


def make_chunk_encoder(options: NetworkOptions, spec: PolicySpec, out_dim: int) -> nn.Module:
    """The configured network from a chunk and its observation to one vector.

    Its last layer is not zero at first, as that of a backbone is.

    Args:
      options: of the network.
      spec: of the policy: what an observation looks like.
      out_dim: size of the output.

    Returns:
      A module that maps chunk [..., H, A] and an observation to [..., out_dim]; see `nn.chunk_encoder`.
    """
    return ENCODERS[options.backbone](options.obs_encoder(spec), out_dim, **_chosen(options))


def _chosen(options: NetworkOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in (*OPTIONS[options.backbone], "activation")}


def init_backbone(
    module: nn.Module,
    key: Key,
    obs: Obs,
    x: Array | None = None,
    t: Array | None = None,
    extra: Array | None = None,
) -> PyTree:
    """Fresh parameters for inputs of these shapes; what is None here must be None in every later call."""
    return module.init(key, x, t, obs, extra)["params"]


def observe(module: Any, params: PyTree, obs: Obs) -> Array:
    """[..., F] features of an observation, of a backbone or of a chunk encoder with these parameters."""
    return module.apply({"params": params}, obs, method=module.observe)


def bind_features(
    module: Any, params: PyTree, features: Array, extra: Array | None = None
) -> Callable[..., Array]:
    """`bind` for features [..., F] of `observe`, where one observation meets several `extra`."""
    context = module.apply({"params": params}, features, extra, method=module.encode)

    def predict(x: Array | None = None, t: Array | None = None) -> Array:
        return module.apply({"params": params}, x, t, context, method=module.decode)

    return predict


def bind(module: Any, params: PyTree, obs: Obs, extra: Array | None = None) -> Callable[..., Array]:
    """The backbone as a function of (x, t) for fixed conditions.

    Args:
      module: from `make_backbone`.
      params: its parameters.
      obs: an observation with leading axes [...].
      extra: [..., E] or None.

    Returns:
      A function of x [..., H, I] and t [] or [...], both None where left out, that
      returns [..., H, O]; the conditions are encoded once, here.
    """
    return bind_features(module, params, observe(module, params, obs), extra)
