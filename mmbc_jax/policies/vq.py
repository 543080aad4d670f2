r"""Residual vector quantisation of chunks, with a prior over the codes.

z = encode(a, s) is replaced by sum_l e_{l c_l}, layer l coding what the layers before it left over:

loss = |chunk - decode(s, zq)| + commitment sum_l |r_l - sg(e_{l c_l})|^2 / W - log p(sg(c) | s),
zq = z + sg(sum_l e_{l c_l} - z).

The gradient passes straight through the rounding to the encoder. The base is discrete, one code per layer, so
the transport need not be steep to split modes; the burden is on the prior: uniform codes visit what was never
seen at a state, a learned prior p(c | s) is autoregressive over the layers. Codes are no parameters but
running averages of what they stand for, placed by k-means at first, and moved where nobody chooses them.

The prior is what `code_prior` and `prior_hidden` say under `prior.name=normal`, the default; `prior.name=categorical`
with as many codes takes its place, whatever those two say.

Source: van den Oord et al. 2017 (VQ-VAE, running averages); Lee et al. 2022 (residual layers); Lee et al. 2024
(VQ-BeT).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import distrax
import jax
import jax.numpy as jnp

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.protocols import MakePrior, Prior, Sampler
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Batch, Key, Loss, PolicySpec, PyTree, Variables
from mmbc_jax.nn.backbone import make_backbone, make_chunk_encoder
from mmbc_jax.policies._codebook import init_codebook, look_up, quantise, update
from mmbc_jax.policies._common import check_codes, chosen_prior
from mmbc_jax.policies._latent import LatentOptions, LatentPolicy, active_units

CODE_PRIORS = ("uniform", "learned")


@dataclasses.dataclass(frozen=True, kw_only=True)
class VQOptions(LatentOptions):
    """Options of the codebooks."""

    num_codes: int = option(16, "K codes in each codebook", low=2)
    layers: int = option(2, "L codebooks", low=1)
    code_prior: str = option("uniform", "over codes, unless prior.name says another", choices=CODE_PRIORS)
    prior_hidden: tuple[int, ...] = option((128, 128), "widths of a learned one", low=1, filled=True)
    commitment: float = option(0.25, "weight of the pull of the encoder to its codes", low=0.0, traced=True)
    decay: float = option(0.99, "of the running averages", low=0.0, high=1.0)
    revive_below: float = option(
        0.03, "a code whose share falls below this fraction of 1/K moves onto an input", low=0.0, high=1.0
    )


@dataclasses.dataclass(frozen=True)
class VQPolicy(LatentPolicy):
    """Latent policy with residual codes, w int32 [..., L]; see `policies._latent` for its attributes."""

    options: VQOptions

    def init(self, key: Key, sample_batch: Batch) -> Variables:
        """Parameters, and in the statistics the codebook, placed on the encoded sample."""
        key_params, key_codes = jax.random.split(key)
        variables = super().init(key_params, sample_batch)
        z = self.encode(variables.params, sample_batch.obs, sample_batch.chunk)
        book = init_codebook(key_codes, z, self.options.layers, self.options.num_codes)
        return variables.replace(stats={"codebook": book})

    def loss(self, variables: Variables, key: Key, batch: Batch, hp: dict[str, Array]) -> Loss:
        """Reconstruction, commitment and the codes' negative log-likelihood, per example [B].

        Args:
          variables: of this policy.
          key: of the prior's loss, and of where dead codes move.
          batch: obs [B], chunk [B, H, A], mask [B, H].
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
        book = update(book, key_codes, index, held, self.options.decay, self.options.revive_below)
        metrics = {
            "code/perplexity": perplexity(index, self.options.num_codes),
            "code/commitment": commitment.mean(),
            "code/nll": nll.mean(),
            "latent/reconstruction": error.mean(),
            "latent/active_units": active_units(z),
        }
        per_example = error + hp["commitment"] * commitment + (nll if self.prior.trainable else 0.0)
        return Loss(per_example, jnp.zeros(()), metrics, {**variables.stats, "codebook": book})

    def posterior(self, variables: Variables, obs: Obs, chunk: Array) -> distrax.Independent:
        """The point mass at the codes int32 [..., L] of a chunk [..., H, A]: log-probability 0 or -inf."""
        z = self.encode(variables.params, obs, chunk)
        index, _, _ = quantise(variables.stats["codebook"].codes, z)
        return distrax.Independent(distrax.Deterministic(index), 1)

    def base_distribution(self, variables: Variables, obs: Obs) -> Any:
        """The prior over codes, w int32 [..., L]."""
        return self.prior.distribution(variables.params["prior"], obs)

    def transport(self, variables: Variables, obs: Obs, w: PyTree) -> Array:
        """Chunk [..., H, A] of obs [...] and codes w int32 [..., L]."""
        return self.decode(variables.params, obs, look_up(variables.stats["codebook"].codes, w))


def perplexity(index: Array, num_codes: int) -> Array:
    """[] exp of the entropy of code usage, averaged over layers: how many codes are in use.

    Args:
      index: [B, L] int32.
      num_codes: K.
    """
    share = jax.nn.one_hot(index, num_codes).mean(0)
    return jnp.exp(-jax.scipy.special.xlogy(share, share).sum(-1)).mean()


@register("policy", VQOptions, needs_prior="codes", needs_sampler=False)
def build(
    options: VQOptions, spec: PolicySpec, *, prior: MakePrior | None = None, sampler: Sampler | None = None
) -> VQPolicy:
    """A residual-VQ policy; `sampler` has no part in it.

    Raises:
      ConfigError: the prior is neither N(0, I) nor one over as many codes.
    """
    shape = (options.layers,)
    codes = chosen_prior(prior, shape)
    if codes is not None:
        check_codes(codes, options.num_codes, f"{options.section}.num_codes")
    decoder = make_backbone(options, spec, spec.action_dim)
    encoder = make_chunk_encoder(options, spec, options.latent_dim)
    return VQPolicy(spec, options, decoder, encoder, codes or _own_prior(options, spec, shape))


def _own_prior(options: VQOptions, spec: PolicySpec, shape: tuple[int, ...]) -> Prior:
    fields = {"hidden": options.prior_hidden, "fourier_octaves": options.fourier_octaves}
    learned = options.code_prior == "learned"
    section = plugin("prior", "categorical", num_codes=options.num_codes, learned=learned, **fields)
    return registry.build("prior", section, shape, spec=spec)
