"""This checkout beside another one of the package, in turn: cloning, discovery, fine-tuning and sampling.

    git worktree add ../before COMMIT
    python -m benchmarks.against --other ../before [--pairs 5] [--cores 1]

Both train the same configuration in processes of their own, by command-line flags that both know, A B B A ...; the
seconds of a stage are those that its summary gives for the compiled loop, without compilation. Sampling is timed on
the clone that each has trained. A ratio is other / ours within a pair: above 1 this checkout is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.timing import spread

ROOT = Path(__file__).parents[1]
JOB = (
    "--config configs/finetune/avoiding_bmd.py --config.stages=bc,discover,finetune --config.bc.steps=2000 "
    "--config.discover.iterations=10 --config.finetune.iterations=20 --config.data.episodes=480 "
    # what the job was before it had noise: every version can run that
    "--config.env.start_noise=0 --config.env.action_noise=0 --config.env.obs_noise=0 --config.finetune.num_modes=32"
)
STAGES = ("bc", "discover", "finetune")
BATCHES = (1, 1024)
_SAMPLING = """
import json, sys, time, jax
try:
    from mmbc_jax.runs.restored import restore
except ImportError:
    from mmbc_jax.training.restored import restore
from pathlib import Path
found = restore(Path(sys.argv[1]), "bc", [])
policy = found.setup.policy
state = jax.tree.map(lambda leaf: leaf[0], found.state)
from mmbc_jax.core.types import Variables
variables = Variables(state.ema, state.stats["policy"])
def sample(variables, key, obs):
    return policy.transport(variables, obs, policy.base_distribution(variables, obs).sample(seed=key))
seconds = {}
for batch in map(int, sys.argv[2:]):
    obs = jax.numpy.zeros((batch, policy.spec.obs_dim))
    run = jax.jit(sample)
    run(variables, jax.random.key(0), obs).block_until_ready()
    calls = 2000 if batch == 1 else 60
    start = time.perf_counter()
    for _ in range(calls):
        run(variables, jax.random.key(0), obs).block_until_ready()
    seconds[f"sample {batch}"] = (time.perf_counter() - start) / calls
print(json.dumps(seconds))
"""


def measure(checkout: Path, cache: Path, cores: int) -> dict[str, float]:
    """Seconds of each stage's loop, and of one call of the sampler at each batch size.

    Args:
      checkout: root of the package.
      cache: folder of its compiled programs.
      cores: that the processes are held to.

    Raises:
      subprocess.CalledProcessError: a process failed; its own error is on stderr.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PLATFORMS": "cpu",
    }
    cpus = set(sorted(os.sched_getaffinity(0))[:cores])

    def run(command: list[str]) -> str:
        return subprocess.run(
            [sys.executable, *command],
            cwd=checkout,
            env=environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cpus),
        ).stdout

    with tempfile.TemporaryDirectory() as folder:
        workdir = str(Path(folder) / "run")
        run(["-m", "mmbc_jax.train", *shlex.split(JOB), "--workdir", workdir])
        found: dict[str, float] = {}
        for stage in STAGES:
            result = json.loads((Path(workdir) / "stages" / stage / "result.json").read_text())
            found[stage] = result["facts"]["train_seconds"]
        return found | json.loads(run(["-c", _SAMPLING, workdir, *map(str, BATCHES)]).splitlines()[-1])


def commit(checkout: Path) -> str:
    """The short name of a checkout's commit."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def compare(other: Path, pairs: int, cores: int) -> dict[str, Any]:
    """Seconds of both and their ratios, pair by pair."""
    samples: dict[str, list[dict[str, float]]] = {"ours": [], "other": []}
    with tempfile.TemporaryDirectory() as caches:
        sides = {"ours": ROOT, "other": other}
        for name, checkout in sides.items():  # fills the caches
            measure(checkout, Path(caches) / name, cores)
        for pair in range(pairs):
            for name in list(sides)[:: 1 if pair % 2 == 0 else -1]:
                samples[name].append(measure(sides[name], Path(caches) / name, cores))
    figures = samples["ours"][0]
    return {
        "benchmark": "against",
        "ours": commit(ROOT),
        "other": commit(other),
        "job": JOB,
        "cores": cores,
        "pairs": pairs,
        "seconds": {
            name: {figure: spread([one[figure] for one in found]) for figure in figures}
            for name, found in samples.items()
        },
        "ratio": {
            figure: spread(
                [b[figure] / a[figure] for a, b in zip(samples["ours"], samples["other"], strict=True)]
            )
            for figure in figures
        },
    }


def page(result: dict[str, Any]) -> str:
    """The result as a markdown table."""
    lines = [
        f"# {result['ours']} beside {result['other']}",
        "",
        f"`mmbc_jax.train {result['job']}`, {result['cores']} core(s), {result['pairs']} pairs in turn. Seconds are "
        "medians; the ratio is other / ours within a pair, median [quartiles]: above 1 this version is faster.",
        "",
        "| | ours, s | other, s | ratio |",
        "| --- | --- | --- | --- |",
    ]
    for figure, ratio in result["ratio"].items():
        ours, other = (result["seconds"][side][figure]["median"] for side in ("ours", "other"))
        shown = f"{ratio['median']:.3f} [{ratio['q25']:.3f}, {ratio['q75']:.3f}]"
        lines.append(f"| {figure} | {ours:.4g} | {other:.4g} | {shown} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, writes and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against", description=__doc__.splitlines()[0])
    parser.add_argument("--other", type=Path, required=True, help="another checkout of the package")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    args = parser.parse_args(argv)
    result = compare(args.other.resolve(), args.pairs, args.cores)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "against.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    (args.out / "against.md").write_text(page(result), encoding="utf-8")
    print(page(result))


if __name__ == "__main__":
    main()
