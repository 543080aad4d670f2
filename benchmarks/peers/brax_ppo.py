"""brax's PPO (`brax.training.agents.ppo`, an installed package) on the task of `_pendulum`.

Its trainer is one function that returns at the end. It runs in a thread that waits after each of its epochs, so that
a block is one epoch. It calls `jax.device_put_replicated`, which JAX has dropped; that one function is restored here.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.comparison import Comparison, bring_in
from benchmarks.peers import _pendulum as task

NEEDS = "brax: pip install brax"
_EPOCHS = 100_000  # more than are ever timed


def replicated(value: Any, devices: list[Any]) -> Any:
    """`value` with a leading axis over the devices, of which there is one here."""
    return jax.tree.map(lambda leaf: jnp.stack([leaf] * len(devices)), value)


class Stepwise:
    """A function with a progress callback, run in a thread and halted in each call of it.

    Args:
      run: takes the callback.
    """

    def __init__(self, run: Callable[[Callable[..., None]], Any]):
        self._go, self._came = threading.Semaphore(0), threading.Semaphore(0)
        self._error: BaseException | None = None
        threading.Thread(target=self._work, args=(run,), daemon=True).start()

    def _work(self, run: Callable[[Callable[..., None]], Any]) -> None:
        self._go.acquire()
        try:
            run(self._halt)
        except BaseException as error:
            self._error = error
        self._came.release()

    def _halt(self, *_: Any) -> None:
        self._came.release()
        self._go.acquire()

    def step(self) -> None:
        """Runs to the next call of the callback, or to the end.

        Raises:
          Exception: what the function raised.
        """
        self._go.release()
        self._came.acquire()
        if self._error is not None:
            raise self._error


def training(modules: list[Any]) -> Callable[[], Any]:
    """A function that runs one epoch of `UPDATES` updates."""
    envs, ppo, networks = modules
    if not hasattr(jax, "device_put_replicated"):
        jax.device_put_replicated = replicated
    sizes = (task.WIDTH,) * 2
    run = functools.partial(
        ppo.train,
        envs.get_environment(task.ENV, backend=task.BACKEND),
        num_timesteps=_EPOCHS * task.UPDATES * task.ENVS * task.STEPS,
        num_evals=_EPOCHS + 1,
        run_evals=False,
        num_envs=task.ENVS,
        episode_length=1000,
        unroll_length=task.STEPS,
        batch_size=task.ENVS // task.MINIBATCHES,
        num_minibatches=task.MINIBATCHES,
        num_updates_per_batch=task.EPOCHS,
        learning_rate=task.RATE,
        discounting=0.99,
        normalize_observations=True,
        network_factory=functools.partial(
            networks.make_ppo_networks,
            policy_hidden_layer_sizes=sizes,
            value_hidden_layer_sizes=sizes,
        ),
    )
    return Stepwise(lambda halt: run(progress_fn=halt)).step


def comparisons(checkout: Path | None, cores: int, quick: bool) -> Iterator[Comparison]:
    """An update."""
    names = ["brax.envs", "brax.training.agents.ppo.train", "brax.training.agents.ppo.networks"]
    modules = bring_in(NEEDS, checkout, "", names)
    yield task.against(
        "brax",
        lambda: training(modules),
        "brax normalises observations by running moments, squashes actions, and synchronises with the host once in "
        f"{task.UPDATES} updates as ours does.",
    )
