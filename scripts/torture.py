"""Kills, damages and starves runs, and checks that nothing of them is lost: `python scripts/torture.py --out DIR`.

Each scenario trains once undisturbed. Then it trains again under disturbance, started over and over with the
same command, until it ends: at a random moment the process is killed, or the disk is full, or the folder cannot
be written; before some starts a byte of a random file of the run is flipped, or a file is cut short; the clock
of the process jumps by days, and so do the times of its files. What must hold:

- every process ends with 0, is killed by us, or refuses in one line with exit code 2; none prints a traceback;
- a refusal that names a damaged file goes away when that file is put back, as from a copy; a damaged checkpoint
  is passed over for the one before it;
- in the end results, episodes, logged rows and the arrays of the final checkpoints are those of the undisturbed
  run, bit for bit.

All draws come from `--seed`. Disk and folder need root, since a tmpfs is mounted; without it they are left out,
and counted so.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np

from mmbc_jax import cli
from mmbc_jax.runs.restored import restore

ROOT = Path(__file__).parents[1]
SMALL = (
    "--config.policy.hidden=16,",
    "--config.actor.hidden=16,",
    "--config.discriminator.hidden=16,",
    "--config.data.episodes=48",
    "--config.bc.steps=60",
    "--config.bc.steps_per_epoch=10",
    "--config.bc.steps_per_row=5",
    "--config.bc.warmup_steps=5",
    "--config.bc.batch_size=32",
    "--config.finetune.num_modes=4",
    "--config.discover.iterations=6",
    "--config.finetune.iterations=12",
    "--config.evaluation.episodes=64",
    "--config.evaluation.every_epochs=2",
    "--config.figures=()",
)
PPO = ("--config.learner.num_envs=16", "--config.learner.decisions=4", "--config.learner.minibatches=2")
PPO += ("--config.learner.iterations_per_epoch=2", "--config.learner.critic_hidden=16,")
SAC = (
    "--config.learner.name=sac",
    "--config.learner.num_envs=16",
    "--config.learner.capacity=512",
    "--config.learner.warmup=64",
)
SAC += ("--config.learner.critic_hidden=16,", "--config.learner.iterations_per_epoch=2")
SCENARIOS: dict[str, tuple[str, ...]] = {
    "bc": (*SMALL, "--config.stages=bc"),
    "ppo": (*SMALL, *PPO),
    "lanes": (*SMALL, *PPO, "--config.stages=bc,discover,finetune,plain", "--config.mesh.cores=own"),
    "sac": (*SMALL, *SAC),
    "sweep": (*SMALL, *PPO, "--config.seeds=2", "--config.sweep.grid=finetune.mi_coef=0,0.5"),
}
# A clock that jumps: `time.time` of the process is off by up to ten days, anew at every call.
JUMPING = """
import random, sys, time
true, draws = time.time, random.Random({seed})
time.time = lambda: true() + draws.uniform(-864000.0, 864000.0)
sys.argv = {argv!r}
from mmbc_jax import cli, train
cli.run_main(train.main)
"""
_PATIENCE = 600.0


class Lost(AssertionError):
    """Something that must hold does not."""


@dataclasses.dataclass
class Torturer:
    """One scenario in one folder.

    Attributes:
      name: of the scenario.
      out: folder of everything.
      draw: of all random choices.
      counts: what happened how often.
    """

    name: str
    out: Path
    draw: random.Random
    counts: Counter[str]

    @property
    def workdir(self) -> Path:
        """Of the run under disturbance."""
        return self.out / self.name / "disk" / "run"

    def start(self, workdir: Path, log: Path) -> subprocess.Popen[bytes]:
        """Starts the command of the scenario, with a clock that jumps or a true one."""
        config = str(ROOT / "configs" / "smoke.py")
        argv = ["train", "--config", config, "--workdir", str(workdir), *SCENARIOS[self.name]]
        script = JUMPING.format(seed=self.draw.randrange(2**32), argv=argv)
        self.counts["starts"] += 1
        return subprocess.Popen(
            [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=log.open("wb")
        )

    def undisturbed(self) -> tuple[Path, float]:
        """(work directory, seconds) of a run that nothing happens to."""
        folder = self.out / self.name
        folder.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        process = self.start(folder / "undisturbed", folder / "stderr")
        if process.wait(_PATIENCE) != 0:
            raise Lost(f"{self.name}: undisturbed, it ends with {process.returncode}: {self.said()}")
        return folder / "undisturbed", time.monotonic() - start

    def said(self) -> str:
        """What the last process wrote to stderr."""
        return (self.out / self.name / "stderr").read_text(errors="replace")

    def attempt(self, seconds: float | None) -> str:
        """Starts the run, kills it after some seconds or never; "done", "killed", or what it refused with."""
        process = self.start(self.workdir, self.out / self.name / "stderr")
        try:
            process.wait(_PATIENCE if seconds is None else seconds)
        except subprocess.TimeoutExpired:
            if seconds is None:
                raise Lost(f"{self.name}: still running after {_PATIENCE} s") from None
            process.kill()
            process.wait()
        said = self.said()
        if "Traceback" in said:
            raise Lost(f"{self.name}: a traceback\n{said}")
        if process.returncode == -9:
            return "killed"
        if process.returncode == 0:
            return "done"
        if process.returncode != 2 or said.count("\n") != 1 or not said.startswith("error: "):
            raise Lost(f"{self.name}: exit code {process.returncode} and\n{said}")
        return said.strip()

    def kill_once(self, seconds: float) -> bool:
        """One start that is killed at a random moment of the time that a whole run takes; whether it had ended."""
        outcome = self.attempt(self.draw.uniform(0.3, seconds))
        if outcome not in ("done", "killed"):
            raise Lost(f"{self.name}: refused without a reason: {outcome}")
        self.counts[outcome] += 1
        return outcome == "done"

    def damage_once(self) -> None:
        """Damages a random file; the run goes on by itself, or says which file it is, which is then put back."""
        files = [p for p in self.workdir.rglob("*") if p.is_file() and p.stat().st_size and p.name != ".lock"]
        if not files:
            return
        copy = self.out / self.name / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.workdir, copy)
        victim = self.draw.choice(files)
        data = bytearray(victim.read_bytes())
        if self.draw.random() < 0.5:
            del data[self.draw.randrange(len(data)) :]
            self.counts["cut short"] += 1
        else:
            data[self.draw.randrange(len(data))] ^= 1 << self.draw.randrange(8)
            self.counts["flipped"] += 1
        victim.write_bytes(data)
        jump = time.time() + self.draw.uniform(-1e8, 1e8)
        os.utime(victim, (jump, jump))
        outcome = self.attempt(None)
        if outcome == "done":
            self.counts["damage survived"] += 1
            # a finished run does not read its checkpoints again; whoever restores a damaged one is told
            where = victim.relative_to(self.workdir).parts
            self.compare(but=f"{where[1]}/state" if where[0] == "checkpoints" else "")
        else:
            self.counts["damage refused"] += 1
            print(f"  {victim.relative_to(self.workdir)}: {outcome[:150]}")
        shutil.rmtree(self.workdir)
        shutil.copytree(copy, self.workdir)

    def compare(self, but: str = "") -> None:
        """Raises Lost where the run does not end as the undisturbed one, in anything `but` one part."""
        ours, theirs = (
            fingerprint(path, but) for path in (self.workdir, self.out / self.name / "undisturbed")
        )
        differ = sorted(
            name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name) and name != but
        )
        if differ:
            raise Lost(f"{self.name}: {', '.join(differ)} differ from the undisturbed run")


def fingerprint(workdir: Path, but: str = "") -> dict[str, object]:
    """What a run found, `but` one part: results without timings, episodes, rows, arrays of final checkpoints."""
    found: dict[str, object] = {"rows": (workdir / "metrics.jsonl").read_bytes()}
    for folder in sorted((workdir / "stages").iterdir()):
        result = json.loads((folder / "result.json").read_text())
        found[f"{folder.name}/result"] = {k: v for k, v in result.items() if k not in ("facts", "crc32")}
        with np.load(folder / "rollouts.npz") as arrays:
            found[f"{folder.name}/rollouts"] = {name: arrays[name].tobytes() for name in arrays}
        if f"{folder.name}/state" != but:
            state = restore(workdir, folder.name, []).state
            leaves = jax.tree.leaves(jax.tree.map(_numbers, state))
            found[f"{folder.name}/state"] = [leaf.tobytes() for leaf in leaves]
    return found


def _numbers(leaf: object) -> np.ndarray:
    is_key = jax.dtypes.issubdtype(getattr(leaf, "dtype", None), jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


@contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[str], bool]]:
    """A tmpfs in a folder, and a function that mounts it anew with other options; it says whether that worked."""
    folder.mkdir(parents=True, exist_ok=True)

    def remount(options: str) -> bool:
        return _mount(["-o", f"remount,{options}", str(folder)])

    mounted = _mount(["-t", "tmpfs", "-o", "size=256m", "none", str(folder)])
    try:
        yield remount if mounted else lambda options: False
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False)


def _mount(arguments: list[str]) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


def starve(one: Torturer, remount: Callable[[str], bool]) -> None:
    """A disk with a few kB left, then a read-only folder: refusals in one line, and the run goes on afterwards."""
    used = sum(p.stat().st_blocks * 512 for p in one.workdir.rglob("*") if p.is_file()) // 1024
    for options, back, what in (
        (f"size={used + one.draw.randrange(8, 400)}k", "size=256m", "full"),
        ("ro", "rw", "read-only"),
    ):
        if not remount(options):
            one.counts[f"{what} left out"] += 1
            continue
        outcome = one.attempt(None)
        remount(back)
        one.counts[f"{what} {'refused' if outcome != 'done' else 'passed'}"] += 1


def torture(name: str, out: Path, kills: int, damages: int, draw: random.Random) -> Counter[str]:
    """One scenario: kills, damaged files and two starved starts, spread over as many runs as it takes.

    Raises:
      Lost: something that must hold does not.
    """
    one = Torturer(name, out, draw, Counter())
    _, seconds = one.undisturbed()
    with small_disk(out / name / "disk") as remount:
        one.workdir.parent.mkdir(parents=True, exist_ok=True)
        done = False
        while one.counts["killed"] < kills:
            if done:
                one.compare()
                shutil.rmtree(one.workdir)
                one.counts["whole runs"] += 1
            done = one.kill_once(seconds)
            due = damages * one.counts["killed"] / max(kills, 1)
            if one.counts["cut short"] + one.counts["flipped"] < due:
                one.damage_once()
            if one.counts["killed"] == kills // 2 and not one.counts["starved"]:
                one.counts["starved"] += 1
                starve(one, remount)
        if one.attempt(None) != "done":
            raise Lost(f"{name}: does not end: {one.said()}")
        one.compare()
        one.counts["whole runs"] += 1
    return one.counts


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="an empty folder")
    parser.add_argument("--only", nargs="+", choices=tuple(SCENARIOS), default=tuple(SCENARIOS))
    parser.add_argument("--kills", type=int, default=25, help="in each scenario")
    parser.add_argument("--damages", type=int, default=8, help="in each scenario")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    cli.quiet()
    for name in args.only:
        draw = random.Random(f"{args.seed} {name}")
        try:
            counts = torture(name, args.out, args.kills, args.damages, draw)
        except Lost as lost:
            print(f"{name}, seed {args.seed}: LOST: {lost}", file=sys.stderr)
            return 1
        print(
            f"{name}, seed {args.seed}: {', '.join(f'{n} {what}' for what, n in sorted(counts.items()))}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
