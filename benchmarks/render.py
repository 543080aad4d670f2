"""Markdown tables from result files: `python -m benchmarks.render results/cloning.json` prints one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks import pages, peers
from benchmarks.tables import Record, compared, milliseconds, peak, ratio, reached, table

PACKAGES = ("python", "jax", "jaxlib", "flax", "optax", "torch", "mujoco-mjx")


def cloning(result: Record) -> list[str]:
    """One training step: times, ratios, share of the peak; then the floor and what compiling costs."""
    rows, facts = [], []
    for run in result["runs"]:
        for case in run["batches"]:
            where = [str(run["cores"]), str(case["batch_size"])]
            for name in case["seconds"]:
                rows.append([*where, name, *compared(case, name), reached(case, name)])
            compiled = [*case["compile_seconds"].items(), *case["first_step_seconds"].items()]
            facts.append(
                [
                    *where,
                    f"{case['gflop_per_step']:.3f}",
                    peak(case),
                    f"{run['copy_gb_per_s']:.1f}",
                    f"{1e3 * case['floor_seconds']:.2f}",
                    ", ".join(f"{name} {seconds:.1f} s" for name, seconds in compiled),
                    f"{case['temp_bytes'] / 2**20:.1f}",
                ]
            )
    header = ["cores", "batch", "", "ms/step", "CPU ms/step", "ratio", "CPU ratio", "GFLOP/s (of peak)"]
    below = ["cores", "batch", "GFLOP/step", "peak GFLOP/s", "copy GB/s", "floor ms", "compile or first step"]
    return [table(header, rows), table([*below, "scratch MiB"], facts)]


def sampling(result: Record) -> list[str]:
    """Latency per call."""
    rows = []
    for run in result["runs"]:
        for case in run["cases"]:
            for name in case["seconds"]:
                where = [str(run["cores"]), str(case["batch_size"]), str(case["euler_steps"])]
                first = f"{case['first_call_seconds'][name]:.2f}"
                rows.append([*where, name, *compared(case, name), reached(case, name), peak(case), first])
    header = ["cores", "batch", "Euler steps", "", "ms/call", "CPU ms/call", "ratio", "CPU ratio"]
    return [table([*header, "GFLOP/s (of peak)", "peak GFLOP/s", "first call s"], rows)]


def finetuning(result: Record) -> list[str]:
    """The iteration and its parts."""
    rows = []
    for run in result["runs"]:
        for case in run["modes"]:
            for name, seconds in case["seconds"].items():
                share = case["share_of_iteration"].get(name)
                rows.append(
                    [
                        str(run["cores"]),
                        str(case["num_modes"]),
                        name,
                        milliseconds(seconds),
                        milliseconds(case["cpu_seconds"][name]),
                        f"{case['control_steps_per_second'][name]:,.0f}",
                        f"{case['control_steps_per_iteration'] / case['cpu_seconds'][name]['median']:,.0f}",
                        f"{100 * share['median']:.0f} %" if share else "",
                        reached(case, name),
                        peak(case),
                        f"{case['compile_seconds'][name]:.1f}",
                        f"{case['temp_bytes'][name] / 2**20:.1f}",
                    ]
                )
    header = ["cores", "modes", "part", "ms", "CPU ms", "control steps/s", "per CPU second", "share"]
    return [table([*header, "GFLOP/s (of peak)", "peak GFLOP/s", "compile s", "scratch MiB"], rows)]


def families(result: Record) -> list[str]:
    """Milliseconds of a training step and of a sample for each family and backbone."""
    rows = []
    for run in result["runs"]:
        for name, fact in run["facts"].items():
            cases = [case for case in run["cases"] if case["subject"] == name]
            cells = [milliseconds(case["seconds"][name]) for case in cases]
            to_flow = cases[0]["ratio"].get(name)
            rows.append(
                [
                    str(run["cores"]),
                    name,
                    f"{fact['parameters'] / 1e6:.2f}",
                    str(fact["train_batch"]),
                    *cells,
                    ratio(to_flow) if to_flow else "",
                    f"{fact['compile_seconds']['train']:.1f}",
                ]
            )
    header = [
        "cores",
        "family / backbone",
        "parameters [M]",
        "timed on",
        "train step of 256 [ms]",
        "sample 1 [ms]",
        "sample 64 [ms]",
    ]
    return [table([*header, "train step / flow", "compile [s]"], rows)]


def torch_families(result: Record) -> list[str]:
    """A row per subject, work and batch: ours beside PyTorch as it comes and compiled; then what was left out."""
    rows: list[list[str]] = []
    left_out: dict[tuple[str, str], list[str]] = {}
    for run in result["runs"]:
        for case in run["cases"]:
            names = ("mmbc_jax", "torch eager", "torch compile" if case["work"] == "train" else "torch trace")
            where = [case["subject"], f"{case['work']} {case['sampler']}".strip(), str(case["batch_size"])]
            size = run["facts"][case["subject"]]["parameters"]
            row = [str(run["cores"]), where[0], f"{size / 1e6:.2f}", *where[1:]]
            row += [milliseconds(case["seconds"][name]) if name in case["seconds"] else "-" for name in names]
            for name in names[1:]:
                clocks = case["ratio"], case["cpu_ratio"]
                row += [ratio(values[name]) if name in values else "-" for values in clocks]
            rows.append(row)
            for reason in case["left_out"].items():
                left_out.setdefault(reason, []).append(f"{' '.join(where)} on {run['cores']}")
    header = ["cores", "family / backbone", "parameters [M]", "work", "batch", "ours [ms]", "eager [ms]"]
    header += ["compile or trace [ms]", "eager / ours", "of CPU", "compile or trace / ours", "of CPU"]
    without = [[*reason, "; ".join(places)] for reason, places in left_out.items()]
    below = ["left out", "because", "where: family, work, batch, cores"]
    return [table(header, rows), *([table(below, without)] if without else [])]


def rendering(result: Record) -> list[str]:
    """Frames per second and processor time of a frame."""
    rows = []
    for run in result["runs"]:
        for case in run["cases"]:
            for name, seconds in case["seconds"].items():
                cpu = case["cpu_seconds"][name]
                frames = [f"{1.0 / spread['median']:,.0f}" for spread in (seconds, cpu)]
                # a thousand frames take as many milliseconds as one takes microseconds
                micro = milliseconds({key: 1e3 * value for key, value in cpu.items()})
                share = ratio(case["cpu_ratio"][name]) if name in case["cpu_ratio"] else ""
                rows.append([str(run["cores"]), str(case["batch_size"]), name, *frames, micro, share])
    header = ["cores", "batch", "", "frames/s", "frames per CPU second", "CPU µs/frame", "CPU ratio"]
    return [table(header, rows)]


def contended(run: Record) -> bool:
    """Whether other programs wanted the measured cores: more of them were runnable than there are cores."""
    load = run["load_average"]
    return load["before"] > run["cores"] or load["after"] - run["cores"] > run["cores"]


def warnings(result: Record) -> list[str]:
    """What a reader must know before quoting a number from this page."""
    found = ["**Quick run: not for quoting.**"] if result["quick"] else []
    busy = [str(run["cores"]) for run in result["runs"] if contended(run)]
    if busy:
        found.append(
            f"**Other programs shared the machine while {' and '.join(busy)} core(s) were measured.** On one core"
            " read processor time. On two cores do not quote anything: threads that wait for each other lose"
            " whole time slices, PyTorch's far more than ours, and the ratio measures that."
        )
    return found


def render(result: Record) -> str:
    """The page of a result file."""
    makers = {
        "cloning": cloning,
        "sampling": sampling,
        "finetuning": finetuning,
        "families": families,
        "torch_families": torch_families,
        "rendering": rendering,
        "sweeps": pages.sweeps,
        "scaling": pages.scaling,
        "start": pages.start,
        "deploy": pages.deploy,
        **dict.fromkeys(peers.NAMES, pages.peer),
    }
    tables = makers[result["benchmark"]](result)
    versions = ", ".join(f"{name} {result['versions'][name]}" for name in PACKAGES)
    commit = f", the peer's commit {result['peer']}" if "peer" in result else ""
    run_facts = [
        [
            str(run["cores"]),
            f"{run['load_average']['before']} / {run['load_average']['after']}",
            f"{run['memory']['peak_rss_bytes'] / 2**20:,.0f}",
            ", ".join(f"{name} {value:.1e}" for name, value in run.get("agreement", {}).items()) or "-",
        ]
        for run in result["runs"]
    ]
    facts = table(["cores", "load average before / after", "peak RSS MiB", "agreement"], run_facts)
    title = f"# {result['benchmark']}"
    head = [title, f"`{result['command']}`, {result['date']}. {versions}{commit}.", *warnings(result)]
    note = (
        "Median [quartiles] over interleaved rounds; a ratio is that contender's time over ours, per round."
    )
    return "\n\n".join([*head, note, *tables, facts]) + "\n"


def main() -> None:
    """Prints the page of each file named on the command line."""
    for path in sys.argv[1:]:
        print(render(json.loads(Path(path).read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
