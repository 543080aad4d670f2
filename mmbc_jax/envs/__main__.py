"""The tasks: what they look like, how well their experts do in every mode, what they cost here.

    python -m mmbc_jax.envs [NAME ...] [--json] [--config.env.KEY=VALUE]
    python -m mmbc_jax.envs NAME --render FILE.mp4|FILE.png [--seed S] [--config.env.KEY=VALUE]

Without names all are listed. `success` is that of the expert, the least and the most over the modes, each of
`--episodes`; `steps/s` are control steps of 256 environments together, random actions, resets included; `compile` is
how long that program took, less where the compilation cache knows it. `--render` shows the expert in every mode, and
random actions where there is no expert.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from mmbc_jax import cli
from mmbc_jax.core import config, registry
from mmbc_jax.core.errors import ConfigError, UserError
from mmbc_jax.core.files import check_folder, local_path
from mmbc_jax.core.keys import seeded
from mmbc_jax.core.picturing import HasScene, plots
from mmbc_jax.core.protocols import demonstrates
from mmbc_jax.evaluation import experts
from mmbc_jax.report import clips

_FPS = 20.0  # of an environment without a clock
_SUFFIXES = (".mp4", ".png")
_SIZE = (480, 360)  # of a tile that MuJoCo draws
_FOLLOWED = ("tcp", "cube")  # whose ways a still shows, where a scene has them


@dataclasses.dataclass(frozen=True)
class Task:
    """A line of the list.

    Attributes:
      name: as typed in `env.name`.
      observes: its entries with their shapes.
      actions: A.
      horizon: control steps of an episode.
      modes: K.
      success: [K] of the expert; empty without one.
      cost: measured here; None where the task cannot be built without a further option.
      missing: why not; empty where it can.
    """

    name: str
    observes: str = ""
    actions: int = 0
    horizon: int = 0
    modes: int = 0
    success: tuple[float, ...] = ()
    cost: experts.Cost | None = None
    missing: str = ""


def task(name: str, section: ConfigDict, episodes: int, seed: int) -> Task:
    """Builds a task, plays its expert and measures it."""
    return played_task(name, section, episodes, seed)[0]


def played_task(
    name: str, section: ConfigDict, episodes: int, seed: int
) -> tuple[Task, Any, experts.Shown | None]:
    """(the task, its environment, the expert's episodes that it was measured on); None for what there is not."""
    try:
        env = registry.build("env", section)
    except ConfigError as error:
        return Task(name, missing=str(error)), None, None
    key_expert, key_cost = jax.random.split(seeded(seed))
    spec, shown, success = env.spec, None, np.zeros(0)
    if demonstrates(env):
        keep = env.posed if isinstance(env, HasScene) else None
        shown = experts.show(env, key_expert, np.repeat(np.arange(spec.num_modes), episodes), keep=keep)
        success = shown.success.reshape(spec.num_modes, episodes).mean(1)
    entries = ", ".join(
        "x".join(map(str, entry.shape)) + (" image" if entry.kind == "image" else "")
        for _, entry in spec.obs.entries
    )
    found = Task(
        name,
        entries,
        spec.action_dim,
        spec.episode_length,
        spec.num_modes,
        tuple(float(share) for share in success),
        experts.cost(env, key_cost),
    )
    return found, env, shown


def row(found: Task) -> list[str]:
    """Its cells."""
    if found.cost is None:
        return [found.name, *["–"] * 7]
    low_high = (
        sorted({f"{x:.2f}" for x in (min(found.success), max(found.success))}) if found.success else ["–"]
    )
    return [
        found.name,
        found.observes,
        str(found.actions),
        str(found.horizon),
        str(found.modes) if found.modes else "–",
        "–".join(low_high),
        f"{found.cost.compile_seconds:.1f} s",
        f"{found.cost.steps_per_second:,.0f}",
    ]


def _list(names: Sequence[str], flags: argparse.Namespace, sections: dict[str, ConfigDict]) -> None:
    found = []
    console = Console(stderr=True)
    for name in names:
        with console.status(f"{name}: its expert, and what it costs"):
            found.append(task(name, sections[name], flags.episodes, flags.seed))
    if flags.json:
        print(json.dumps([dataclasses.asdict(one) for one in found]))
        return
    table = Table(box=None, pad_edge=False)
    for head in ("task", "observes", "actions", "horizon", "modes", "success", "compile", "steps/s"):
        table.add_column(
            head, justify="left" if head in ("task", "observes") else "right", no_wrap=head == "task"
        )
    for one in found:
        table.add_row(*row(one))
    Console().print(table)
    for one in found:
        if one.missing:
            print(f"{one.name}: {one.missing}")


def _filmed(model: Any, qpos: np.ndarray, mocap: np.ndarray) -> np.ndarray:
    """[T, B, height, width, 3] pictures of positions [T, B, nq] and mocap bodies [T, B, M, 3]."""
    from mmbc_jax.report import scenes

    each = [scenes.frames(model, qpos[:, i], mocap[:, i], _SIZE) for i in range(qpos.shape[1])]
    return np.stack(each, axis=1)


def _stills(model: Any, qpos: np.ndarray, mocap: np.ndarray, length: np.ndarray) -> np.ndarray:
    """[1, B, height, width, 3] ends of episodes of `length` [B] steps, with the ways of hand and cube."""
    from mmbc_jax.report import scenes

    ends = [slice(steps + 1) for steps in length.tolist()]
    each = [
        scenes.still(model, qpos[end, i], mocap[end, i], _SIZE, followed=_FOLLOWED)
        for i, end in enumerate(ends)
    ]
    return np.stack(each)[None]


def _first_of_each(shown: experts.Shown, modes: np.ndarray) -> experts.Shown:
    """The first episode of each mode, of one that has them."""
    first = [int(np.flatnonzero(shown.mode == mode)[0]) for mode in modes]
    path = None if shown.path is None else shown.path[:, first]
    states = jax.tree.map(lambda leaf: leaf[:, first], shown.states)
    return experts.Shown(modes, shown.success[first], shown.length[first], path, states)


def render(env: Any, path: Path, seed: int, played: experts.Shown | None = None) -> int:
    """Writes the expert in every mode, at most `clips.MOST_TILES` of them; returns how many it shows.

    Args:
      env: bare.
      path: to write, .mp4 or .png.
      seed: of what is played.
      played: episodes of the expert that there are already, of `played_task`; None to play them.

    Raises:
      UserError: there is nothing to draw, or a package is missing.
    """
    spec, expert = env.spec, demonstrates(env)
    modes = np.arange(min(spec.num_modes, clips.MOST_TILES)) if expert else np.full(4, -1)
    whole, scene = path.suffix == ".mp4", isinstance(env, HasScene)
    keep = env.posed if scene else experts.frame_of(env)
    if keep is None and not plots(env, spec):
        raise UserError(
            f"{spec.name}: it draws nothing and has no plotted position, so there is nothing to see"
        )
    if played is not None and expert and (scene or keep is None):
        shown = _first_of_each(played, modes)
    else:
        shown = experts.show(env, seeded(seed), modes, keep=keep)
    chosen = slice(0 if whole else int(shown.length.max()), int(shown.length.max()) + 1)
    titles = [spec.mode_labels[mode] if mode >= 0 else "random" for mode in modes]
    if keep is None:
        assert shown.path is not None
        frames = list(clips.drawn(env, shown.path[: chosen.stop], titles, whole))
    elif scene and not whole:
        qpos, mocap = shown.states
        frames = list(clips.tiled(_stills(env.scene, qpos, mocap, shown.length)))
    else:
        kept = jax.tree.map(lambda x: x[chosen], shown.states)
        frames = list(clips.tiled(_filmed(env.scene, *kept) if scene else kept, titles))
    if path.suffix == ".mp4":
        clips.write_video(path, frames, 1.0 / spec.control_dt if spec.control_dt else _FPS)
    else:
        clips.write_picture(path, frames[-1])
    return len(modes)


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, dict[str, ConfigDict]]:
    """The arguments, and the section `env` of every task that is meant.

    Raises:
      UserError: an argument that cannot work.
    """
    rest, overrides = config.split_overrides(argv)
    parser = cli.Parser("python -m mmbc_jax.envs", __doc__)
    parser.add_argument("names", nargs="*", help="tasks; all without")
    parser.add_argument("--render", default="", help="picture or video of one task's expert in every mode")
    parser.add_argument("--episodes", type=int, default=64, help="of the expert in each mode (default: 64)")
    parser.add_argument("--seed", type=int, default=0, help="of what is played")
    parser.add_argument("--json", action="store_true", help="print JSON")
    flags = parser.known(rest)
    if flags.episodes < 1:
        raise UserError(f"--episodes {flags.episodes} must be at least 1")
    cli.check_seed(flags.seed)
    names = flags.names or sorted(registry.available("env"))
    if (flags.render or overrides) and len(names) != 1:
        what = "--render" if flags.render else "--config.env"
        raise UserError(f"{what} needs the name of one task")
    sections = {name: ConfigDict({"env": config.plugin("env", name)}) for name in names}
    return flags, {name: config.apply_overrides(one, overrides).env for name, one in sections.items()}


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit code."""
    cli.quiet()
    flags, sections = parse(argv)
    if flags.render:
        path = local_path(flags.render, "--render")
        if path.suffix not in _SUFFIXES:
            raise UserError(f"--render {path} must end in {' or '.join(_SUFFIXES)}")
        check_folder(path.parent, "the folder of --render")
        path.parent.mkdir(parents=True, exist_ok=True)
    cli.compilation_cache()
    if not flags.render:
        _list(list(sections), flags, sections)
        return 0
    (section,) = sections.values()
    count = render(registry.build("env", section), path, flags.seed)
    print(f"{path} shows {count} episodes")
    return 0


if __name__ == "__main__":
    cli.run_main(main)
