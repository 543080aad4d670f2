"""Latency of one decision at batch 1, call by call: the bare transport, and every way to reach it from outside.

The bare transport is `jax.jit(policy.transport)` of a normalised observation and noise that are there already, from
host to host. A loaded policy also checks its input, scales, draws, cuts at the bounds. A controller plays one action
of every chunk here, so that each call is a decision. The exported program is called through `jax.jit`; the server is
asked by its client over loopback, both in this process. Beside it PyTorch eager on the same network, where that is
installed, and LeRobot's `select_action` (again a decision a call) of its policies of about the same sizes, where that
is. Weights are random.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import host, subjects
from benchmarks.timing import Contender, interleave, summarise
from mmbc_jax.core.learning import Subject
from mmbc_jax.core.types import Variables
from mmbc_jax.deploy.deployed import Deployed
from mmbc_jax.deploy.exported import exported
from mmbc_jax.deploy.interface import Interface
from mmbc_jax.deploy.serving import codec, make_server
from mmbc_jax.evaluation.evaluator import act_with_policy
from mmbc_jax.learners.bc import clone
from mmbc_jax.ops.normalisation import Normalizer

BARE = "bare transport"
EULER = 5  # steps of the main job
_BLOCK_SECONDS, _ROUNDS = 0.1, 20
Call = Callable[[], Any]


def deployed(policy: Any, variables: Variables) -> Deployed:
    """A policy as `load` gives it, one action of every chunk played by its controllers."""
    spec = policy.spec
    ends = [jnp.full(size, side) for size in (spec.obs_dim, spec.action_dim) for side in (-1.0, 1.0)]
    interface = Interface(
        *("", "", "bc", 0, 0, 0, {}, spec.obs, 1, spec.action_dim, spec.chunk_len, 1),
        *((-1.0,) * spec.action_dim, (1.0,) * spec.action_dim, 0.0, 1, (0,), ()),
    )
    acts = {own: act_with_policy(policy, own) for own in (False, True)}
    return Deployed(interface, acts, Subject((), variables, Normalizer(*ends), {}, {}), Path("nowhere"))


def ours(policy: Any, variables: Variables) -> tuple[dict[str, Call], Callable[[], None]]:
    """({way: one decision}, what ends the server)."""
    made, obs = deployed(policy, variables), np.zeros(policy.spec.obs_dim, np.float32)
    row, key, z = obs[None], np.array([0, 1], np.uint32), np.zeros(1, np.int32)
    base = jax.jit(lambda obs: policy.base_distribution(variables, obs).sample(seed=jax.random.key(0)))
    w = jax.tree.map(np.asarray, base(jnp.asarray(row)))
    transport = jax.jit(policy.transport)
    program = jax.jit(exported(made, ("cpu",)).call)
    controller = made.controller()
    server = make_server(made, "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever).start()
    client = codec().Client(port=server.socket.getsockname()[1])

    def stop() -> None:
        client.close()
        server.shutdown()

    return {
        BARE: lambda: np.asarray(transport(variables, row, w)),
        "policy(obs)": lambda: made(obs),
        "controller.act": lambda: controller.act(obs),
        "StableHLO": lambda: np.asarray(program(key, row, z)),
        "server, round trip": lambda: client.infer({"obs": obs}),
    }, stop


def networks() -> dict[str, tuple[Any, Variables, dict[str, Callable[[], Call]]]]:
    """{network: (policy, variables, what makes the decisions of others)}."""
    learner = subjects.cloner(256, EULER)
    variables = clone(subjects.init_state(learner, subjects.demonstrations(1000)))
    found = {
        "flow MLP of the main job, 5 Euler steps": (learner.policy, variables, {"torch eager": _torch_flow})
    }
    try:
        from benchmarks.mirrors.contenders import their_sampler
        from benchmarks.mirrors.subjects import SUBJECTS, Subject, build
        from benchmarks.peers import lerobot
    except ModuleNotFoundError as missing:
        if missing.name != "torch":
            raise
        return found
    from mmbc_jax.core.types import PolicySpec

    spec = PolicySpec(2 * (lerobot.STATE + lerobot.REST), lerobot.ACTION, lerobot.CHUNK)
    sizes = {"backbone": "unet", "channels": (64, 128, 256), "width": 128}
    unet = Subject(lerobot.UNET, "diffusion", spec, sizes, (("ddim", lerobot.DENOISING),))
    act = next(subject for subject in SUBJECTS if subject.label == "cvae / transformer")
    for family, subject in ((lerobot.UNET, unet), (lerobot.CVAE, act)):
        built = build(subject, 1)

        def torch_eager(built: Any = built) -> Call:
            sample, obs = their_sampler(built, 1, trace=False), np.array(built.batch.obs)
            return lambda: sample(obs)

        others = {
            "torch eager": torch_eager,
            "lerobot select_action": functools.partial(_select_action, family),
        }
        found[family] = (built.policy, built.variables, others)
    return found


def _torch_flow() -> Call:
    from benchmarks.sampling import their_sampler

    sample, obs = their_sampler("eager", EULER, 1), np.zeros((1, 4), np.float32)
    return lambda: sample(obs)


def _select_action(family: str) -> Call:
    """LeRobot's policy, asked for one action of every chunk."""
    from benchmarks.comparison import bring_in
    from benchmarks.peers import lerobot

    modules = [f"lerobot.{name}" for name in lerobot.MODULES]
    policy = lerobot.Theirs(bring_in(lerobot.NEEDS, None, "", modules, "torchvision")).policy(family).eval()
    import torch

    policy.config.n_action_steps = 1
    policy.reset()
    seen = {
        "observation.state": torch.zeros(1, lerobot.STATE),
        "observation.environment_state": torch.zeros(1, lerobot.REST),
    }

    def call() -> Any:
        with torch.no_grad():
            return policy.select_action(dict(seen)).numpy()

    return call


class Timed:
    """A block of calls that remembers how long each took."""

    def __init__(self, call: Call):
        for _ in range(3):
            call()
        start = time.perf_counter()
        for _ in range(3):
            call()
        self.call, self.seconds = call, []
        self.count = int(np.clip(3 * _BLOCK_SECONDS / (time.perf_counter() - start), 3, 1000))

    def block(self) -> None:
        """Makes the calls."""
        for _ in range(self.count):
            start = time.perf_counter()
            self.call()
            self.seconds.append(time.perf_counter() - start)


def measure_network(name: str, policy: Any, variables: Variables, others: Any, rounds: int) -> dict[str, Any]:
    """Times the ways to a decision of one network in turn; unit: one decision."""
    ways, stop = ours(policy, variables)
    left_out = {}
    for other, make in others.items():
        try:
            ways[other] = make()
        except Exception as error:  # a package that is missing or broken raises anything
            left_out[other] = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
    timed = {way: Timed(call) for way, call in ways.items()}
    try:
        samples = interleave([Contender(way, one.block, one.count) for way, one in timed.items()], rounds)
    finally:
        stop()
    calls = {
        way: {"p50": float(np.percentile(one.seconds, 50)), "p99": float(np.percentile(one.seconds, 99))}
        for way, one in timed.items()
    }
    size = sum(leaf.size for leaf in jax.tree.leaves(variables.params))
    found = {"network": name, "parameters": size, "calls": calls, "left_out": left_out}
    return (
        found | {"counted": {way: len(one.seconds) for way, one in timed.items()}} | summarise(samples, BARE)
    )


def measure(cores: int, quick: bool) -> dict[str, Any]:
    """Every network on the pinned cores; `quick` takes the first and few rounds."""
    try:
        import torch

        torch.set_num_threads(cores)
    except ModuleNotFoundError:
        pass
    found = networks()
    chosen = list(found)[:1] if quick else list(found)
    cases = [measure_network(name, *found[name], 3 if quick else _ROUNDS) for name in chosen]
    return {"cases": cases, "memory": host.memory()}
