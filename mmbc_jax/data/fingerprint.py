"""What demonstrations are known by: a checksum of their numbers."""

from __future__ import annotations

import hashlib

import numpy as np

from mmbc_jax.core.errors import DataError
from mmbc_jax.data.episodes import Episodes


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


def check_same(episodes: Episodes, found: str, expected: str, what: str) -> None:
    """Raises DataError where demonstrations have another fingerprint than those that something was trained on.

    Args:
      episodes: as read now.
      found: their fingerprint.
      expected: of those before; "" where it was not recorded.
      what: was trained on them, for the message.
    """
    if expected and found != expected:
        raise DataError(
            f"{episodes.source} has changed since {what} was trained on it: fingerprint {found}, was {expected}; "
            "restore the file, or train in another --workdir"
        )
