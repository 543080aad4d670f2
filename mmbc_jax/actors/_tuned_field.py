"""What actors share that train a copy of the reference's field: where z enters it, and where its noise comes from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Self

import jax
import jax.numpy as jnp

from mmbc_jax.actors._mode_field import ModeField
from mmbc_jax.actors._noise_head import HeadOptions, NoiseHead, required
from mmbc_jax.actors._start_noise import StartNoise
from mmbc_jax.actors._steerable import check_steerable
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.protocols import Field, Policy, capabilities, native
from mmbc_jax.core.types import Array, Key, PolicySpec, PyTree, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class TunedFieldOptions(HeadOptions):
    """Options of every actor that trains the reference's field."""

    steps: int = option(10, "from noise to chunk, evenly spaced in time", low=1, high=1000)
    field_rate: float = option(
        0.1, "learning rate of the field as a share of the actor's, which is that of the head", low=0.0
    )
    modes: str = option(
        "noise",
        "what z commands: the noise, by a steering head in front; the field, by a network beside it; or both. "
        "One mode commands nothing",
        choices=("noise", "field", "both"),
    )


@dataclasses.dataclass(frozen=True)
class TunedField:
    """A copy of the reference's field, trained, with z in front of it or beside it.

    Its parameters are {"policy"}, a copy of the reference's; {"head"} and {"shift"} where z commands these.

    Attributes:
      policy: the reference.
      start: x_0's distribution.
      shift: z's part in the field; None for none.
      rate: of the field's learning, as a share.
    """

    policy: Any
    start: StartNoise
    shift: ModeField | None
    rate: float

    def rates(self, tunes: Array) -> dict[str, Array | float]:
        """Factors of the learning rate; see `core.acting.HasRates`."""
        return {"policy": self.rate * tunes}

    def headless(self) -> TunedField:
        """The same field with noise of the reference's base; z still moves the field where it did."""
        return dataclasses.replace(self, start=self.start.headless())

    def init(self, key: Key, reference: Variables | None) -> dict[str, PyTree]:
        """Parameters at which the field is the reference's, and the noise over all z its base."""
        key_start, key_shift = jax.random.split(key)
        params = {"policy": jax.tree.map(jnp.copy, required(reference).params)}
        params |= self.start.init(key_start, reference)
        return params if self.shift is None else {**params, "shift": self.shift.init(key_shift)}

    def frozen(self, reference: Variables | None, obs: Obs) -> Field:
        """The reference's own field, in the coordinates that it was learned in."""
        return native(self.policy.field(required(reference), obs))[0]

    def field(
        self, params: PyTree, reference: Variables | None, obs: Obs, z: Array
    ) -> tuple[Field, Callable[[Array], Array]]:
        """(the trained field in these coordinates, the way from there to chunks)."""
        tuned = Variables(params["policy"], required(reference).stats)
        field, out = native(self.policy.field(tuned, obs))
        return (field if self.shift is None else self.shift.moved(params["shift"], field, obs, z)), out


@dataclasses.dataclass(frozen=True)
class OnTunedField:
    """What actors on a `tuned` field have in common; see `core.commanding.HasHead` and `core.acting.HasRates`."""

    tuned: TunedField

    @property
    def has_head(self) -> bool:
        """Whether a steering head draws the noise."""
        return self.tuned.start.head is not None

    def headless(self) -> Self:
        """The trained field with noise of the reference's base."""
        return dataclasses.replace(self, tuned=self.tuned.headless())

    def rates(self, tunes: Array) -> dict[str, Array | float]:
        """Factors of the learning rate."""
        return self.tuned.rates(tunes)


def tuned_field(
    options: TunedFieldOptions, spec: PolicySpec, policy: Policy | None, num_modes: int
) -> TunedField:
    """The trained copy of a policy's field that `options` describe.

    Raises:
      ConfigError: there is no policy, or it integrates no field.
    """
    if policy is None:
        raise options.error(
            "name",
            "an actor that needs no clone, such as gaussian: without bc or start_from there is no field",
        )
    if "field" not in capabilities(policy):
        raise options.error(
            "name", "a policy that integrates a field, such as flow or diffusion, to train on"
        )
    check_steerable(options, False, spec, policy)
    several, size = num_modes > 1, spec.chunk_size
    head = shift = None
    if several and options.modes != "field":
        head = NoiseHead.of(options, spec, policy, num_modes)
    if several and options.modes != "noise":
        shift = ModeField(spec, num_modes, options.network(spec, size))
    return TunedField(policy, StartNoise(policy, head), shift, options.field_rate)
