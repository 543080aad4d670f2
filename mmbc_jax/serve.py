"""Serves a trained policy over a websocket: `python -m mmbc_jax.serve --checkpoint runs/x --port 8000`.

It listens on this machine alone unless --host says otherwise, answers msgpack, and knows no passwords: in a network,
put it behind something that does. A client is in `mmbc_jax/deploy/client.py`, one file that needs numpy, msgpack and
websockets. Ctrl-C ends it. Needs the extra `serve`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mmbc_jax import cli
from mmbc_jax.core.errors import UserError


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments.

    Raises:
      UserError: an argument that cannot work.
    """
    parser = cli.Parser("python -m mmbc_jax.serve", __doc__)
    cli.add_checkpoint(parser)
    parser.add_argument("--host", default="127.0.0.1", help="to listen at; default: this machine alone")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000; 0 for a free one")
    parser.add_argument("--deterministic", action="store_true", help="the likeliest actions, not drawn ones")
    args = parser.parse_args(argv)
    if not 0 <= args.port < 2**16:
        raise UserError(f"--port {args.port} must be from 0 to 65535")
    return args


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit code."""
    cli.quiet()
    args = parse(argv)
    cli.compilation_cache()
    from mmbc_jax.deploy.deployed import load
    from mmbc_jax.deploy.serving import LOOPBACK, codec, make_server

    codec()  # a missing package is said before anything is read
    policy = load(args.checkpoint, args.stage, args.step, args.seed, args.point, args.deterministic)
    for note in policy.notes:
        print(note, file=sys.stderr)
    server = make_server(policy.warm_up(), args.host, args.port)
    if args.host not in LOOPBACK:
        print(f"anybody who reaches {args.host} can ask this policy", file=sys.stderr)
    host, port = server.socket.getsockname()[:2]
    print(f"serving stage {policy.spec.stage} at ws://{host}:{port}; Ctrl-C ends it", flush=True)
    with server:
        server.serve_forever()
    return 0


if __name__ == "__main__":
    cli.run_main(main)
