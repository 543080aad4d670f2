"""Policies of the finished toy run, loaded once."""

from __future__ import annotations

import contextlib
import functools
import threading

import mmbc_jax
from mmbc_jax.deploy import serving
from mmbc_jax.deploy.deployed import Deployed
from tests.toys.landscape import finished_run, unchecked


@functools.cache
def loaded(stage: str) -> Deployed:
    """The first seed's policy of a stage."""
    with unchecked():
        return mmbc_jax.load(finished_run(), stage)


@contextlib.contextmanager
def served():
    """The port of a server of the fine-tuned policy that is up."""
    made = serving.make_server(loaded("finetune"), "127.0.0.1", 0)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made.socket.getsockname()[1]
    made.shutdown()
    thread.join(30)
