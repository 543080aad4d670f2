"""A policy behind a websocket: a request in msgpack, an answer in msgpack, a thread per client."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from mmbc_jax.core.errors import UserError, cut, shown
from mmbc_jax.core.extras import imported
from mmbc_jax.core.files import plain
from mmbc_jax.deploy.deployed import Deployed
from mmbc_jax.deploy.inputs import as_rows

LOOPBACK = ("127.0.0.1", "::1", "localhost")
LARGEST = 2**26
"""Bytes of a message."""
MOST_ROWS = 1024
"""Observations of a request: each power of two is a program to compile."""
_KNOWN = ("obs", "z", "key", "deterministic")


def codec() -> Any:
    """The module `deploy.client`, whose `pack` and `unpack` both sides use.

    Raises:
      UserError: its packages are not installed.
    """
    imported("msgpack", "serve", "serving a policy")
    imported("websockets", "serve", "serving a policy")
    return imported("mmbc_jax.deploy.client", "serve", "serving a policy")


def metadata(policy: Deployed) -> dict[str, Any]:
    """What a client is told first: what the policy takes and gives, and what its commands lead to."""
    modes = [
        {name: value for name, value in vars(mode).items() if name != "picture"} for mode in policy.modes()
    ]
    return plain(policy.spec.to_json() | {"modes": modes})


def answered(policy: Deployed, request: Any) -> dict[str, Any]:
    """The answer to a request: {"chunk", "seconds"}.

    Raises:
      UserError: the request cannot work.
    """
    if not isinstance(request, Mapping) or "obs" not in request:
        raise UserError(
            f"the request is {shown(request)}, must be a map with obs, and z, key, deterministic if wanted"
        )
    if unknown := [name for name in request if name not in _KNOWN]:
        raise UserError(f"the request has {shown(unknown[0])}; it may have {', '.join(_KNOWN)}")
    without_chance = request.get("deterministic")
    if without_chance not in (None, True, False):
        raise UserError(f"deterministic = {shown(without_chance)} must be true or false")
    if (rows := as_rows(policy.spec.obs, request["obs"])[1]) > MOST_ROWS:
        raise UserError(f"the request has {rows} observations, must have {MOST_ROWS} at most")
    start = time.perf_counter()
    chunk = policy(request["obs"], request.get("z"), request.get("key"), without_chance)
    return {"chunk": chunk, "seconds": time.perf_counter() - start}


def make_server(policy: Deployed, host: str, port: int) -> Any:
    """A server that listens; its `serve_forever` answers, its `shutdown`, of another thread, ends that.

    What a client sends cannot end it: a request that cannot work is answered {"error": ...}. Browsers are refused, so
    that no page of the web speaks to it: their requests name an origin.

    Args:
      policy: that answers.
      host: to listen at.
      port: 0 for a free one.

    Raises:
      UserError: the packages of the extra `serve` are not installed, or it cannot listen there.
    """
    wire = codec()
    server = imported("websockets.sync.server", "serve", "serving a policy")
    closed = imported("websockets.exceptions", "serve", "serving a policy").ConnectionClosed
    hello = wire.pack(metadata(policy))

    def handle(socket: Any) -> None:
        try:
            socket.send(hello)
            for message in socket:
                socket.send(_reply(wire, policy, message))
        except closed:
            return

    try:
        return server.serve(
            handle, host, port, compression=None, max_size=LARGEST, origins=[None], logger=_quiet_logger()
        )
    except OSError as error:
        raise UserError(f"cannot listen at {host}:{port}: {error.strerror or error}") from error


def _reply(wire: Any, policy: Deployed, message: Any) -> bytes:
    try:
        try:
            request = wire.unpack(message)
        except Exception as error:  # of msgpack, which has a dozen of kinds, or of an array
            raise UserError(
                f"the message is no msgpack of a request: {cut(str(error)) or type(error).__name__}"
            ) from error
        return wire.pack(answered(policy, request))
    except UserError as error:
        return wire.pack({"error": str(error)})
    except (
        Exception
    ) as error:  # what no request should be able to cause must not end the others' service either
        return wire.pack({"error": f"the policy failed: {type(error).__name__}: {cut(str(error))}"})


def _quiet_logger() -> Any:
    """Handshakes that are refused are answered, and need no traceback here."""
    import logging

    logger = logging.getLogger("mmbc_jax.serve")
    logger.setLevel(logging.CRITICAL)
    return logger
