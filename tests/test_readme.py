"""Commands and examples of README and how-to pages, executed as written; `make` is only looked up in the Makefile."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
HOW_TO = {
    path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs" / "how-to").glob("*.md"))
}
FILES = {"own-policy": "my_policies.py", "own-environment": "my_envs.py", "own-reward": "my_rewards.py"}
# What makes the smoke configuration smaller still; the commands themselves stay as the README has them.
SHRINK = (
    "--config.bc.steps=100 --config.bc.steps_per_epoch=100 --config.bc.warmup_steps=10 --config.bc.batch_size=32 "
    "--config.ppo.num_envs=16 --config.ppo.iterations_per_epoch=1 --config.discover.iterations=1 "
    "--config.finetune.iterations=1 --config.evaluation.episodes=32 --config.data.episodes=40"
)

# One variant of a study, which as a whole takes an hour.
STUDY = (
    "--only=modes-radial/deterministic-K2/seed0 --config.bc.steps=100 --config.bc.steps_per_epoch=100 "
    "--config.bc.warmup_steps=10 --config.data.episodes=40 --config.evaluation.episodes=32 "
)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text: str = README) -> list[str]:
    return [
        line for block in blocks(text, "bash") for line in block.splitlines() if line.startswith("python ")
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A place with the repository's configs, the example files and the example data."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "configs").symlink_to(ROOT / "configs")
    for page, name in FILES.items():
        (code,) = blocks(HOW_TO[page], "python")
        (folder / name).write_text(code)
    (data,) = blocks(HOW_TO["own-data"], "python")
    subprocess.run([sys.executable, "-c", data], cwd=folder, check=True, timeout=120)
    return folder


def run(command: str, folder: Path) -> None:
    extra = SHRINK if "mmbc_jax.train" in command else STUDY if "mmbc_jax.study" in command else ""
    argv = [sys.executable, *shlex.split(command)[1:], *shlex.split(extra)]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def test_the_readme_has_its_two_commands_and_make_knows_all_it_names():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"make ([a-z-]+)", README))
    assert {"train", "test"} <= named <= targets


def test_files_that_the_readme_names_exist():
    for path in re.findall(r"`(configs/[\w/]+\.py)`|\]\(((?!http)[^)#]+)\)", README):
        name = next(part for part in path if part)
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", ["own-policy", "own-data"])
def test_what_is_brought_is_cloned(folder, page):
    (command,) = commands(HOW_TO[page])
    run(f"{command} --config.stages=bc", folder)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["own-data", "own-environment", "own-reward"])
def test_what_is_brought_trains(folder, page):
    """As the page has it, with all stages, each of which is compiled; a clone of the same name steps aside."""
    (command,) = commands(HOW_TO[page])
    run(f"{command} --overwrite", folder)


@pytest.mark.slow
def test_the_sweep_of_the_page_runs(folder):
    (command,) = commands(HOW_TO["sweep"])
    run(command, folder)


@pytest.mark.slow
def test_every_other_command_runs_in_order(folder):
    for command in commands():
        if "my_" not in command:
            run(command, folder)


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def anchors(path: Path) -> set[str]:
    """Of the headings of a page, as GitHub and the site make them."""
    titles = re.findall(
        r"^#+ (.+)$", re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL), re.MULTILINE
    )
    return {
        re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).strip().replace(" ", "-") for title in titles
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", page.read_text()):
        place = (page.parent / target).resolve() if target else page
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), f"{target}#{anchor}"


def test_the_site_shows_every_page():
    """`make docs` fails on a page that is in no menu, too; here without its packages."""
    menu = (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs").as_posix()
        assert f" {name}\n" in menu or name.endswith("_table.md"), name


def test_the_newcomers_script_finds_what_it_cuts_out():
    script = (ROOT / "scripts" / "newcomer.sh").read_text()
    named = re.findall(r"\$\(command ['\"]?(.+?)['\"]?\)", script)
    assert len(named) == 5
    for pattern in named:
        assert any(pattern in command for command in commands()), pattern
    blocks_of = re.findall(r"^block (\S+) (\w+) '?([^'>]+?)'? >", script, re.MULTILINE)
    assert len(blocks_of) == 4
    for page, language, pattern in blocks_of:
        assert any(pattern in block for block in blocks((ROOT / page).read_text(), language)), (page, pattern)
