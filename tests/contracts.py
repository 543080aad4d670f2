"""The contracts at run time: what a plug-in is given and returns has the types and shapes its protocol states.

`install()` puts these checks around the methods of every plug-in that the registry builds, annotated or not. They run
where Python runs: once per trace under `jit`, and under `vmap` on the shapes of one instance.
Named axes agree within one call, and where the plug-in has a `spec` or `num_modes`, H, A and Z have those sizes. An
array of numpy passes for one of jax, as it does for jax itself.
"""

from __future__ import annotations

import functools
import inspect
import typing
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from beartype import BeartypeConf
from beartype.door import is_bearable
from jaxtyping import Float, Shaped, TypeCheckError, jaxtyped

from mmbc_jax.core import learning, protocols
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.registry import Plugin
from mmbc_jax.core.types import Array, EnvSpec, PolicySpec

CONTRACTS: dict[str, tuple[type, ...]] = {
    "policy": (
        protocols.Policy,
        protocols.HasLogProb,
        protocols.HasPosterior,
        protocols.HasField,
        protocols.HasChain,
    ),
    "prior": (protocols.Prior,),
    "sampler": (protocols.Sampler,),
    "env": (protocols.Env, protocols.HasExpert, protocols.HasMeanPaths),
    "actor": (learning.Actor, learning.ReparameterisedActor),
    "discriminator": (learning.Discriminator,),
    "reward": (learning.Reward,),
    "learner": (learning.Learner,),
}
CONF = BeartypeConf(is_pep484_tower=True)
_types = functools.cache(typing.get_type_hints)


def install() -> None:
    """Puts the checks around whatever the registry builds from now on."""
    plain = Plugin.__call__

    @functools.wraps(plain)
    def build(self: Plugin, *args: Any, **kwargs: Any) -> Any:
        built = plain(self, *args, **kwargs)
        enlist(type(built), CONTRACTS.get(self.kind, ()))
        return built

    Plugin.__call__ = build  # type: ignore[method-assign]


def enlist(cls: type, contracts: tuple[type, ...]) -> None:
    """Puts the checks around those methods of a class that its contracts name, wherever it inherits them from."""
    for contract in contracts:
        for name, stated in vars(contract).items():
            owner = next((base for base in cls.__mro__ if name in vars(base)), None)
            if name.startswith("_") or not inspect.isfunction(stated) or owner is None:
                continue
            method = vars(owner)[name]
            if inspect.isfunction(method) and not hasattr(method, "contract"):
                setattr(owner, name, checked(method, stated))


def checked(method: Any, stated: Any) -> Any:
    """A method that checks its arguments and its result against a protocol's method."""
    signature = inspect.signature(stated)

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = list(signature.bind(self, *args, **kwargs).arguments.items())[1:]
        where = f"{type(self).__name__}.{method.__name__}"
        with jaxtyped("context"):
            _name_sizes(self)
            for name, value in given:
                check(value, _types(stated)[name], f"{where}: {name}", self)
            result = method(self, *args, **kwargs)
            check(result, _types(stated)["return"], f"{where}: its result", self)
        if _types(stated)["return"] is protocols.Field:
            enlist(type(result), (protocols.Field,))
        return result

    call.contract = stated  # type: ignore[attr-defined]
    return call


def check(value: Any, hint: Any, where: str, owner: Any = None) -> None:
    """Raises TypeCheckError unless a value has a type; fields of structs and entries of observations are looked at.

    Axes take their sizes from what was checked before in the same `jaxtyped("context")`.
    """
    if isinstance(hint, type) and issubclass(hint, flax.struct.PyTreeNode):
        for name, kind in _types(hint).items():
            check(getattr(value, name), kind, f"{where}.{name}", owner)
    elif hint == Obs:
        _check_obs(value, where, getattr(owner, "spec", None))
    elif not is_bearable(jnp.asarray(value) if isinstance(value, np.ndarray) else value, hint, conf=CONF):
        raise TypeCheckError(f"{where} is {_shown(value)}, not {hint}")


def _check_obs(obs: Any, where: str, spec: Any) -> None:
    """Its entries are as the spec says behind common leading axes, which are `*batch`."""
    if not isinstance(spec, (PolicySpec, EnvSpec)):
        if not isinstance(obs, dict) and not isinstance(jnp.asarray(obs), Float[Array, "*batch D"]):
            raise TypeCheckError(f"{where} is {_shown(obs)}, not [*batch, D]")
        return
    batch, named = spec.obs.batch_shape(obs), spec.obs.named(obs)
    for name, entry in spec.obs.entries:
        if tuple(named[name].shape) != (*batch, *entry.shape):
            raise TypeCheckError(f"{where} has {name} {_shown(named[name])}, not [*{batch}, *{entry.shape}]")
    _name(batch, "*batch", where)


def _name_sizes(owner: Any) -> None:
    spec = getattr(owner, "spec", None)
    if isinstance(spec, PolicySpec):
        _name(spec.chunk_shape, "H A", "spec")
    elif isinstance(spec, EnvSpec):
        _name((spec.action_dim,), " A", "spec")
    if not isinstance(spec, EnvSpec) and hasattr(owner, "num_modes"):
        _name((owner.num_modes,), " Z", "num_modes")


def _name(shape: tuple[Any, ...], axes: str, where: str) -> None:
    """Sizes may be symbols, where a program is exported for any batch."""
    if not isinstance(jax.ShapeDtypeStruct(shape, np.float32), Shaped[jax.ShapeDtypeStruct, axes]):
        raise TypeCheckError(f"{where}: [{axes}] is {shape}, which other arguments contradict")


def _shown(value: Any) -> str:
    return f"{value.dtype}{list(value.shape)}" if hasattr(value, "shape") else repr(value)
