"""Asks a policy server: `python -m mmbc_jax.serve`. This file needs numpy, msgpack and websockets, and nothing else.

    client = Client("127.0.0.1", 8000)
    chunk = client.infer({"obs": obs, "z": 2})["chunk"]

Copy it to the robot's computer: it imports nothing of the package. Arrays travel as their bytes with type and shape;
nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
from typing import Any

import msgpack
import numpy as np
from websockets.sync.client import connect

_ARRAY = "__array__"
_KINDS = "biuf"  # of numbers; nothing else travels as an array
_LARGEST = 2**26  # bytes of a message


def pack(value: Any) -> bytes:
    """A message: mappings, sequences, numbers, texts, and NumPy's arrays."""
    return msgpack.packb(value, default=_packed)


def unpack(message: bytes) -> Any:
    """What `pack` packed.

    Raises:
      ValueError: it is no such message.
    """
    return msgpack.unpackb(message, object_hook=_unpacked, strict_map_key=True)


def _packed(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in _KINDS:
        return {_ARRAY: value.dtype.str, "shape": list(value.shape), "data": value.tobytes()}
    if isinstance(value, np.generic) and value.dtype.kind in _KINDS:
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be sent: arrays of numbers can, and plain values")


def _unpacked(value: dict[str, Any]) -> Any:
    if _ARRAY not in value:
        return value
    try:
        dtype = np.dtype(value[_ARRAY])
        if dtype.kind not in _KINDS:
            raise ValueError(f"type {dtype}")
        return np.frombuffer(value["data"], dtype).reshape([int(n) for n in value["shape"]])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"an array that is none: {error}") from error


class ServerError(RuntimeError):
    """What the server could not do, in its own words; the connection stays."""


class Client:
    """A connection to a policy server.

    Args:
      host: where it listens.
      port: on which port.
      timeout: seconds to wait for a connection, and for every answer.

    Attributes:
      metadata: what the policy takes and gives: observation, chunk, bounds, commands.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 8000, timeout: float = 30.0):
        self._timeout = timeout
        self._open = contextlib.ExitStack()
        made = connect(
            f"ws://{host}:{port}", open_timeout=timeout, max_size=_LARGEST, compression=None, proxy=None
        )
        self._socket = self._open.enter_context(made)
        self.metadata: dict[str, Any] = unpack(self._received())

    def infer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Asks for a chunk.

        Args:
          request: "obs", one or a batch, as the policy takes it; if wanted "z", the command, "key", a seed of what is
            left to chance, and "deterministic".

        Returns:
          {"chunk": [H, A] or [B, H, A] in physical units, "seconds": that the policy took}.

        Raises:
          ServerError: the request cannot work.
          TimeoutError: no answer within the timeout. It may still come, and would be taken for the next one: the
            connection is closed, and every later call raises `websockets.exceptions.ConnectionClosed`.
        """
        self._socket.send(pack(request))
        try:
            answer = unpack(self._received())
        except TimeoutError:
            self.close()
            raise
        if "error" in answer:
            raise ServerError(answer["error"])
        return answer

    def _received(self) -> bytes:
        message = self._socket.recv(timeout=self._timeout)
        return message.encode() if isinstance(message, str) else message

    def close(self) -> None:
        """Ends the connection."""
        self._open.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
