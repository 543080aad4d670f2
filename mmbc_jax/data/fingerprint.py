"""What demonstrations are known by: a checksum of their numbers."""

from __future__ import annotations

import functools
import hashlib

import numpy as np

from mmbc_jax.core.errors import DataError
from mmbc_jax.data.episodes import Episodes


@functools.lru_cache(maxsize=1)  # asked for more than once of the demonstrations of a run, which may be large
def fingerprint(episodes: Episodes) -> str:
    """A checksum of 32 hexadecimal digits over names, types, shapes and values of all arrays.

    Of what was read and not of the file: copied, touched or stored in another format, demonstrations stay the same.
    """
    arrays = {**{f"obs.{name}": values for name, values in sorted(episodes.entries.items())}}
    arrays |= {"action": episodes.action, "ends": episodes.ends}
    if episodes.mode is not None:
        arrays["mode"] = episodes.mode
    digest = hashlib.blake2b(digest_size=16)
    for name, values in arrays.items():
        digest.update(f"{name} {values.dtype.str} {values.shape};".encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def check_same(episodes: Episodes, expected: str, what: str) -> None:
    """Raises DataError where demonstrations have another fingerprint than those that something was trained on.

    Args:
      episodes: as read now.
      expected: of those before; "" where it was not recorded.
      what: was trained on them, for the message.
    """
    if expected and (found := fingerprint(episodes)) != expected:
        raise DataError(
            f"{episodes.source} has changed since {what} was trained on it: fingerprint {found}, was {expected}; "
            "restore the file, or train in another --workdir"
        )
