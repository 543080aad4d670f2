r"""PyTorch libraries on our tasks, through Gymnasium: Stable-Baselines3's PPO and LeRobot's Diffusion Policy.

    python -m mmbc_jax.export_data --data pusht.npz --format lerobot --out pusht_lerobot \
        --config.data.reader.obs_keys=keypoint,state[0:2]
    python -m benchmarks.gymnasium_torch --peer lerobot=../lerobot --data pusht_lerobot
    python -m benchmarks.gymnasium_torch --only sb3 --env landscape --env-steps 100000

SB3's PPO is trained on each task (`peers._sb3_tasks`), LeRobot's policy on an exported data set and then played on
Push-T (`peers._lerobot_tasks`). A part whose library or data set is missing is left out with a line that says what
to install or to point to. Writes `results/gymnasium_torch.json` and `.md` after every policy; a part that does not
run stays as it was.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.metadata
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import host
from benchmarks.render import contended
from benchmarks.run import checkout, revision
from benchmarks.tables import Record, table

NAME = "gymnasium_torch"
PARTS, TASKS = ("sb3", "lerobot"), ("landscape", "circle", "avoiding")
_CELLS = ["success", "by mode", "entropy"]


def _measured(part: str, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What a part has found, again after every policy.

    Raises:
      Missing: what it needs is not there.
    """
    from benchmarks.peers import _lerobot_tasks, _sb3_tasks

    if part == "sb3":
        ppo, done = dataclasses.replace(_sb3_tasks.Training(), **_given(env_steps=args.env_steps)), []
        for task in args.env:
            for found in _sb3_tasks.measure(task, ppo, args.seeds):
                yield {"tasks": [*done, found], "library": found["version"]}
            done.append(found)
        return
    sizes = dataclasses.replace(_lerobot_tasks.Training(), **_given(steps=args.steps, episodes=args.episodes))
    folder = args.peer.get("lerobot")
    for found in _lerobot_tasks.measure(folder, args.data, sizes, args.seeds):
        yield {"tasks": [found], "library": f"commit {revision(folder)}"}


def _given(**values: int | None) -> dict[str, int]:
    return {name: value for name, value in values.items() if value is not None}


def measure(part: str, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A part's record, again after every policy: what it found, how it was called, and on what.

    Raises:
      Missing: what it needs is not there.
    """
    from mmbc_jax.report.summary import command, device, versions

    before = host.load_average()
    for found in _measured(part, args):
        yield {
            "command": command(f"benchmarks.{NAME}", args.argv),
            "date": datetime.date.today().isoformat(),
            "versions": {**versions(), "torch": importlib.metadata.version("torch")},
            "cores": device()["cpu_cores"],
            "load_average": {"before": before, "after": host.load_average()},
            **found,
        }


def _played(played: Record, modes: Sequence[str]) -> list[str]:
    reached = zip(modes, played["success_by_mode"], strict=True)
    shares = ", ".join(f"{name} {share:.3f}" for name, share in reached if share) or "-"
    entropy = "-" if played["entropy"] is None else f"{played['entropy']:.2f}"
    return [f"{played['success']:.3f}", shares, entropy]


def _head(record: Record) -> str:
    named = ", ".join(f"{name} {record['versions'][name]}" for name in ("python", "jax", "torch"))
    load = record["load_average"]
    shared = " Other programs shared them: read processor time." if contended(record) else ""
    return (
        f"`{record['command']}`, {record['date']}. {named}, the library: {record['library']}. {record['cores']} "
        f"core(s), load average {load['before']} before and {load['after']} after.{shared}"
    )


def _sb3_page(record: Record) -> list[str]:
    rows = []
    for task in record["tasks"]:
        for run in task["runs"]:
            where = [task["task"], str(run["seed"]), f"{run['env_steps']:,}"]
            spent = [f"{run[key]:.0f}" for key in ("seconds", "cpu_seconds")]
            for how, played in (("drawn", run["noise"]), ("mean", run["mean"])):
                rows.append([*where, *spent, how, *_played(played, task["modes"]), f"{played['return']:.3f}"])
    sizes = record["tasks"][0]["sizes"]
    note = (
        f"PPO with SB3's defaults but {sizes['envs']} environments, rollouts of {sizes['rollout']} steps, "
        f"minibatches of {sizes['batch']} and a learning rate of {sizes['rate']:g}, from random weights: no "
        f"demonstrations. Played over {sizes['episodes']:,} episodes, with actions drawn from the policy and with "
        "their mean."
    )
    header = ["task", "seed", "environment steps", "s", "CPU s", "actions", *_CELLS, "return"]
    return ["## Stable-Baselines3: PPO", _head(record), note, table(header, rows)]


def _lerobot_page(record: Record) -> list[str]:
    task = record["tasks"][0]
    sizes, data, rows = task["sizes"], task["data"], []
    for run in task["runs"]:
        where = [f"{run['steps']:,}", str(run["seed"]) if run["steps"] else "untrained"]
        spent = [f"{run[key]:.0f}" for key in ("seconds", "cpu_seconds", "played_seconds")]
        loss = "-" if run["loss"] is None else f"{run['loss']:.4f}"
        played = run["played"]
        best = [f"{played['best_reward']:.3f}", f"{played['return']:.1f}", f"{played['steps']:.0f}"]
        rows.append([*where, *spent, loss, *_played(played, task["modes"]), *best])
    note = (
        f"Its 1-D U-Net of {task['parameters'] / 1e6:.2f} M parameters (64, 128, 256 channels) on key points, 100 "
        f"levels of noise, DDIM in 10 steps; LeRobot's preset but a learning rate of {sizes['rate']:g} after "
        f"{sizes['warmup']} steps of warm-up; batches of {sizes['batch']} from {data['episodes']} human episodes "
        f"({data['rows']:,} rows). Played over {sizes['episodes']} episodes, other starts for every seed. "
        "Best coverage is the largest clip(coverage / 0.95, 0, 1) of an episode, the mean over episodes; success "
        "needs a coverage above 0.95. LeRobot's own defaults are 100,000 steps and 512, 1,024 and 2,048 channels: "
        "this page says that the way through works, not how good its policy can be."
    )
    header = [
        "steps",
        "seed",
        "s",
        "CPU s",
        "s of playing",
        "loss",
        *_CELLS,
        "best coverage",
        "return",
        "length",
    ]
    return ["## LeRobot: Diffusion Policy on Push-T", _head(record), note, table(header, rows)]


PAGES: dict[str, Callable[[Record], list[str]]] = {"sb3": _sb3_page, "lerobot": _lerobot_page}


def page(result: Record) -> str:
    """The page of a result file."""
    note = (
        "By mode: the shares of all episodes that succeed in each mode, where there are any. Entropy: of the modes "
        "of the successful episodes, to the base of the number of modes; 0 is one mode, 1 all alike."
    )
    parts = [block for part in PARTS if part in result for block in PAGES[part](result[part])]
    return "\n\n".join(["# PyTorch libraries through Gymnasium", note, *parts]) + "\n"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command-line arguments, with the list itself as `argv`."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{NAME}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, help="one part instead of both")
    parser.add_argument("--peer", type=checkout, action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--data", type=Path, help="LeRobotDataset of Push-T with key points")
    parser.add_argument("--env", nargs="+", default=TASKS, help="tasks for PPO; they observe one vector")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--env-steps", type=int, help="of PPO")
    parser.add_argument("--steps", type=int, help="of gradient of the Diffusion Policy")
    parser.add_argument("--episodes", type=int, help="that it plays")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    args = parser.parse_args(argv)
    for name in ("seeds", "env_steps", "steps", "episodes"):
        if (value := getattr(args, name)) is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} = {value} is not allowed: at least 1")
    args.argv, args.peer = argv, dict(args.peer)
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, writes and prints."""
    from benchmarks.comparison import Missing
    from mmbc_jax.cli import compilation_cache
    from mmbc_jax.core.files import write_json

    args = parse(argv)
    compilation_cache()
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"{NAME}.json"
    for part in args.only:
        try:
            for record in measure(part, args):
                kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
                write_json(path, {**kept, part: record})
                path.with_suffix(".md").write_text(page({**kept, part: record}), encoding="utf-8")
            print(page({part: record}))
        except Missing as missing:
            print(f"{part} left out: {str(missing).splitlines()[0]}")
    return 0


if __name__ == "__main__":
    from mmbc_jax.cli import run_main

    run_main(main)
