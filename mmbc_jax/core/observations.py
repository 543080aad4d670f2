"""What an observation looks like: the one place that knows.

An observation is an array (`plain`, one vector [..., D]) or a dict of named entries, vectors and images. Leading axes
are whatever is vmapped, batched or scanned over; they belong to no entry.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Float
from ml_collections import ConfigDict

from mmbc_jax.core import registry
from mmbc_jax.core.errors import ConfigError

Obs = jax.Array | Mapping[str, jax.Array]  # an array where the spec is `plain`, else a dict of entries


class ObsKind(Protocol):
    """A kind of observation: how its entries are stored, and what a network makes of them."""

    rank: int  # axes of one observation
    dtype: DTypeLike

    def encode(self, encoder: Any, name: str, entry: ObsEntry, value: jax.Array) -> jax.Array:
        """[..., F] features of a value [..., *shape], inside the flax module `encoder`.

        Args:
          encoder: an `nn.obs_encoder.ObsEncoder`, whose options it may use; submodules belong to it.
          name: of the entry.
          entry: the entry.
          value: with any leading axes; a vector is normalised, every other kind is as the environment gave it.
        """
        ...


@functools.cache
def find_kind(name: str) -> ObsKind:
    """The kind of observation of a name."""
    found: ObsKind = registry.find("observation", name)(ConfigDict())
    return found


def kind_of_rows(rows: Any) -> str:
    """The kind that recorded rows [n, ...] are of, told by their axes, and where two share them by their type.

    Raises:
      ConfigError: there is no such kind.
    """
    rank, dtype = rows.ndim - 1, jnp.dtype(rows.dtype)
    fitting = [name for name in registry.available("observation") if find_kind(name).rank == rank]
    exact = [name for name in fitting if jnp.dtype(find_kind(name).dtype) == dtype]
    if not fitting:
        raise ConfigError("data.reader.obs_keys", rows.shape, "rows of vectors or images")
    return (exact or fitting)[0]


@dataclasses.dataclass(frozen=True)
class ObsEntry:
    """One named part of an observation.

    Attributes:
      shape: of one observation: (D,) of a vector, (height, width, channels) of an image.
      kind: the name of a plug-in: "vector", normalised to [-1, 1], or "image", uint8 everywhere and scaled by its
        encoder. Of every kind but vectors normalisation keeps off.
      low: [D] smallest values in physical units where they are known; empty where not.
      high: [D] largest values; empty where not known.
      angles: indices of a vector that hold radians. They are left as they are; encoders see cosine and sine.
      quaternions: indices of a vector at which four numbers (w, x, y, z) of a unit quaternion start. They are left
        as they are; encoders see the first two columns of its rotation matrix, since q and -q are one rotation.
    """

    shape: tuple[int, ...]
    kind: str = "vector"
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    angles: tuple[int, ...] = ()
    quaternions: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        rank = self.of_kind.rank
        if len(self.shape) != rank:
            raise ValueError(f"an entry of kind {self.kind} has {rank} axes, not shape {self.shape}")

    @property
    def dtype(self) -> DTypeLike:
        """That of its kind: uint8 of an image, float32 of a vector."""
        return self.of_kind.dtype

    @property
    def of_kind(self) -> ObsKind:
        """The kind itself."""
        return find_kind(self.kind)

    @property
    def kept(self) -> tuple[int, ...]:
        """Indices that normalisation leaves as they are: angles and quaternions."""
        return tuple(sorted({*self.angles, *(q + i for q in self.quaternions for i in range(4))}))


@dataclasses.dataclass(frozen=True)
class ObsSpec:
    """The entries of an observation.

    Attributes:
      entries: (name, entry) pairs, sorted by name as a dict's leaves are.
      plain: the observation is the array of its only entry, and no dict.
    """

    entries: tuple[tuple[str, ObsEntry], ...]
    plain: bool = False

    @staticmethod
    def vector(size: int, **fields: Any) -> ObsSpec:
        """A plain vector [..., size]; `fields` are those of its `ObsEntry`."""
        return ObsSpec((("state", ObsEntry((size,), **fields)),), plain=True)

    @staticmethod
    def of(entries: Mapping[str, ObsEntry]) -> ObsSpec:
        """A dict of entries."""
        return ObsSpec(tuple(sorted(entries.items())))

    @property
    def size(self) -> int:
        """D: numbers in all vector entries together; 0 where there are only images."""
        return sum(entry.shape[0] for _, entry in self.entries if entry.kind == "vector")

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the image entries."""
        return tuple(name for name, entry in self.entries if entry.kind == "image")

    @property
    def nbytes(self) -> int:
        """Bytes of one observation."""
        counted = 0
        for _, entry in self.entries:
            numbers = 1
            for axis in entry.shape:
                numbers *= axis
            counted += numbers * jnp.dtype(entry.dtype).itemsize
        return counted

    def named(self, obs: Obs) -> dict[str, jax.Array]:
        """{entry: array} of an observation."""
        return dict(obs) if isinstance(obs, Mapping) else {self.entries[0][0]: obs}

    def joined(self, named: Mapping[str, jax.Array]) -> Obs:
        """The observation of {entry: array}."""
        return named[self.entries[0][0]] if self.plain else dict(named)

    def dummy(self, *batch: int) -> Obs:
        """Zeros with leading axes `batch`."""
        return self.joined({name: jnp.zeros((*batch, *e.shape), e.dtype) for name, e in self.entries})

    def batch_shape(self, obs: Obs) -> tuple[int, ...]:
        """The leading axes of an observation."""
        name, entry = self.entries[0]
        array = self.named(obs)[name]
        return tuple(array.shape[: array.ndim - len(entry.shape)])

    def flat(self, obs: Obs) -> Float[jax.Array, "*batch D"]:
        """[..., D] the vector entries, one after another; images are left out.

        Raises:
          ConfigError: there are only images.
        """
        named = self.named(obs)
        parts = [named[name] for name, entry in self.entries if entry.kind == "vector"]
        if not parts:
            raise ConfigError("env.observe", "image", "state or both: this needs an observed vector")
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts, -1)

    def mismatch(self, obs: Obs) -> str:
        """What is wrong with an observation without leading axes, in words; empty where nothing is."""
        if not self.plain and not isinstance(obs, Mapping):
            return f"is no dict with {', '.join(name for name, _ in self.entries)}"
        named = self.named(obs)
        if set(named) != {name for name, _ in self.entries}:
            return (
                f"has entries {', '.join(sorted(named))}, not {', '.join(name for name, _ in self.entries)}"
            )
        for name, entry in self.entries:
            shape = tuple(jnp.shape(named[name]))
            if shape != entry.shape:
                return f"has {name} of shape {shape}, not {entry.shape}"
        return ""

    def to_json(self) -> dict[str, Any]:
        """In JSON's own types."""
        return {"plain": self.plain, "entries": {name: dataclasses.asdict(e) for name, e in self.entries}}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> ObsSpec:
        """What `to_json` wrote."""
        entries = []
        for name, fields in sorted(value["entries"].items()):
            plain: Any = {k: tuple(v) if isinstance(v, (list, tuple)) else v for k, v in fields.items()}
            entries.append((name, ObsEntry(**plain)))
        return ObsSpec(tuple(entries), bool(value["plain"]))


def with_history(spec: ObsSpec, length: int) -> ObsSpec:
    """The spec of the last `length` observations, one after another along the last axis: images along their channels.

    The oldest comes first; a spec of length 1 is the spec itself.
    """
    if length == 1:
        return spec

    def longer(entry: ObsEntry) -> ObsEntry:
        *front, last = entry.shape
        size = entry.shape[0]
        return dataclasses.replace(
            entry,
            shape=(*front, last * length),
            low=entry.low * length,
            high=entry.high * length,
            angles=tuple(a + size * i for i in range(length) for a in entry.angles),
            quaternions=tuple(q + size * i for i in range(length) for q in entry.quaternions),
        )

    return ObsSpec(tuple((name, longer(entry)) for name, entry in spec.entries), spec.plain)
