r"""Residual vector quantisation of chunks, with a prior over the codes.

z = encode(a, s) is replaced by sum_l e_{l c_l}, layer l coding what the layers before it left over:

loss = |chunk - decode(s, zq)| + commitment sum_l |r_l - sg(e_{l c_l})|^2 / W - log p(sg(c) | s),
zq = z + sg(sum_l e_{l c_l} - z).

The gradient passes straight through the rounding to the encoder. The base is discrete, one code per layer, so
the transport need not be steep to split modes; the burden is on the prior: uniform codes visit what was never
seen at a state, a learned prior p(c | s) is autoregressive over the layers. Codes are no parameters but
running averages of what they stand for, placed by k-means at first, and moved where nobody chooses them.

Source: van den Oord et al. 2017 (VQ-VAE, running averages); Lee et al. 2022 (residual layers); Lee et al. 2024
(VQ-BeT).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import distrax
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from mmbc_jax.core.config import check_choice, check_range, check_widths
from mmbc_jax.core.protocols import MakePrior, Sampler
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Batch, Key, Loss, PolicySpec, PyTree, Variables
from mmbc_jax.nn.backbone import make_backbone, make_chunk_encoder
from mmbc_jax.policies._codebook import init_codebook, look_up, quantise, update
from mmbc_jax.policies._latent import LatentPolicy, active_units, check_latent, latent_config
from mmbc_jax.priors.categorical import CategoricalPrior

CODE_PRIORS = ("uniform", "learned")


def default_config() -> ConfigDict:
    """Defaults.

    `num_codes` codes in each of `layers` codebooks. `code_prior` is one of `CODE_PRIORS`, `prior_hidden` the
    hidden widths of a learned one. `commitment` weighs the pull of the encoder to its codes. `decay` is that
    of the running averages; a code whose share falls below `revive_below` / num_codes moves onto an input.
    """
    return ConfigDict(
        {
            **latent_config(),
            "num_codes": 16,
            "layers": 2,
            "code_prior": "uniform",
            "prior_hidden": (128, 128),
            "commitment": 0.25,
            "decay": 0.99,
            "revive_below": 0.03,
        }
    )


@dataclasses.dataclass(frozen=True)
class VQPolicy(LatentPolicy):
    """Latent policy with residual codes; see `policies._latent` for the attributes it shares.

    Attributes:
      num_codes: K per layer.
      layers: L; w is int32 [..., L].
      decay: of the running averages.
      revive_below: share, as a fraction of 1/K, below which a code is dead.
    """

    num_codes: int
    layers: int
    decay: float
    revive_below: float

    def init(self, key: Key, sample_batch: Batch) -> Variables:
        """Parameters, and in the statistics the codebook, placed on the encoded sample."""
        key_params, key_codes = jax.random.split(key)
        variables = super().init(key_params, sample_batch)
        z = self.encode(variables.params, sample_batch.obs, sample_batch.chunk)
        return variables.replace(stats={"codebook": init_codebook(key_codes, z, self.layers, self.num_codes)})

    def loss(self, variables: Variables, key: Key, batch: Batch, hp: dict[str, Array]) -> Loss:
        """Reconstruction, commitment and the codes' negative log-likelihood, per example [B].

        Args:
          variables: of this policy.
          key: of the prior's loss, and of where dead codes move.
          batch: obs [B, D], chunk [B, H, A], mask [B, H].
          hp: `commitment` [].
        """
        key_prior, key_codes = jax.random.split(key)
        params, book = variables.params, variables.stats["codebook"]
        z = self.encode(params, batch.obs, batch.chunk)
        index, chosen, residual = quantise(book.codes, z)
        error = self.error(params, batch, z + jax.lax.stop_gradient(chosen.sum(-2) - z))
        commitment = jnp.square(residual - jax.lax.stop_gradient(chosen)).mean(-1).sum(-1)
        nll = self.prior.loss(params["prior"], key_prior, batch.obs, index)
        held = jax.lax.stop_gradient(residual)
        book = update(book, key_codes, index, held, self.decay, self.revive_below)
        metrics = {
            "code/perplexity": perplexity(index, self.num_codes),
            "code/commitment": commitment.mean(),
            "code/nll": nll.mean(),
            "latent/reconstruction": error.mean(),
            "latent/active_units": active_units(z),
        }
        per_example = error + hp["commitment"] * commitment + (nll if self.prior.trainable else 0.0)
        return Loss(per_example, jnp.zeros(()), metrics, {**variables.stats, "codebook": book})

    def posterior(self, variables: Variables, obs: Array, chunk: Array) -> distrax.Independent:
        """The point mass at the codes int32 [..., L] of a chunk [..., H, A]: log-probability 0 or -inf."""
        z = self.encode(variables.params, obs, chunk)
        index, _, _ = quantise(variables.stats["codebook"].codes, z)
        return distrax.Independent(distrax.Deterministic(index), 1)

    def base_distribution(self, variables: Variables, obs: Array) -> Any:
        """The prior over codes, w int32 [..., L]."""
        return self.prior.distribution(variables.params["prior"], obs)

    def transport(self, variables: Variables, obs: Array, w: PyTree) -> Array:
        """Chunk [..., H, A] of obs [..., D] and codes w int32 [..., L]."""
        return self.decode(variables.params, obs, look_up(variables.stats["codebook"].codes, w))


def perplexity(index: Array, num_codes: int) -> Array:
    """[] exp of the entropy of code usage, averaged over layers: how many codes are in use.

    Args:
      index: [B, L] int32.
      num_codes: K.
    """
    share = jax.nn.one_hot(index, num_codes).mean(0)
    return jnp.exp(-jax.scipy.special.xlogy(share, share).sum(-1)).mean()


@register("policy", default_config, hparams=("commitment",))
def build(
    cfg: ConfigDict, spec: PolicySpec, *, prior: MakePrior | None = None, sampler: Sampler | None = None
) -> VQPolicy:
    """A residual-VQ policy with a prior over codes of its own; `prior` and `sampler` have no part in it.

    Raises:
      ConfigError: an option cannot work.
    """
    check_latent(cfg)
    check_range("policy.num_codes", cfg.num_codes, 2)
    check_range("policy.layers", cfg.layers, 1)
    check_choice("policy.code_prior", cfg.code_prior, CODE_PRIORS)
    check_range("policy.commitment", cfg.commitment, 0.0)
    check_range("policy.decay", cfg.decay, 0.0, 1.0)
    check_range("policy.revive_below", cfg.revive_below, 0.0, 1.0)
    check_widths("policy.prior_hidden", cfg.prior_hidden)
    codes: Any = CategoricalPrior(
        (cfg.layers,),
        spec.obs_dim,
        cfg.num_codes,
        tuple(cfg.prior_hidden),
        cfg.fourier_octaves,
        trainable=cfg.code_prior == "learned",
    )
    return VQPolicy(
        spec,
        make_backbone(cfg, *spec.chunk_shape),
        make_chunk_encoder(cfg, cfg.latent_dim),
        codes,
        cfg.latent_dim,
        cfg.reconstruction,
        cfg.num_codes,
        cfg.layers,
        cfg.decay,
        cfg.revive_below,
    )
