"""Config files and study files that cannot be used: what their code does wrong is said in one line."""

from __future__ import annotations

import os

import pytest

from mmbc_jax import train
from mmbc_jax.study import __main__ as study
from tests.malformed.calls import refusal

RAISED = {
    "an error": "1 / 0",
    "an exit": "import sys; sys.exit(0)",
    "another exit": "import sys; sys.exit('done')",
    "an interrupt": "raise KeyboardInterrupt",
    "a base exception": "raise type('Stop', (BaseException,), {})('now')",
    "an error without words": "raise type('Mute', (Exception,), {'__str__': lambda self: 1 / 0})",
    "an error of many lines": "raise ValueError('one\\ntwo\\nthree' * 1000)",
    "endless recursion": "f = lambda: f(); f()",
    "too much memory": "bytearray(2**62)",
    "a missing module": "import no_such_module",
    "a missing file": "open('/no/such/file')",
    "an assertion": "assert False",
    "a generator's end": "raise StopIteration",
    "an error group": "raise ExceptionGroup('all', [ValueError(1)])",
}
BROKEN = {
    "syntax": "def get_config(:",
    "indentation": "def get_config():\nreturn 3",
    "tabs": "if True:\n        a = 1\n\tb = 2",
    "not closed": "config = (((",
    "text": "steps: 3",
    "NUL": "a = 1\0",
    "not UTF-8": b"# \xff\xfe\nget_config = None",
    "unknown encoding": "# -*- coding: klingon -*-",
    "binary": bytes(range(256)),
    "empty": "",
    "JSON": '{"get_config": 1}',
    "nested": "a = " + "(" * 500,
    "no function": "get_config = 3",
    "needs an argument": "def get_config(a): return a",
    "a class": "class get_config: pass",
    "a coroutine": "async def get_config(): pass",
}
MADE = {
    "None": "None",
    "a dict": "{}",
    "a number": "3",
    "a class": "ConfigDict",
    "nothing in it": "ConfigDict()",
    "frozen without sections": "FrozenConfigDict()",
    "a reference to nothing": "base_config() | {}",
}
CHANGED = {
    "an unknown field": "config.bc.stepz = 3",
    "an unknown section": "config.bcc = ConfigDict()",
    "a section gone": "del config.policy",
    "a field gone": "del config.bc.steps",
    "a section that is none": "config.policy = None",
    "a section of text": "config.update_from_flattened_dict({}); config.bc = 'fast'",
    "a plug-in without a name": "config.policy = ConfigDict({'hidden': (3,)})",
    "a plug-in whose name is a number": "config.policy.name = 3",
    "a plug-in whose name is nothing": "config.policy.name = None",
    "an unknown plug-in": "config.policy = plugin('policy', 'nonesuch')",
    "a plug-in that cannot be imported": "config.policy.name = 'no.module:policy'",
    "a relative import": "config.policy.name = '..up:policy'",
    "a required placeholder": "config.bc.steps = config_dict.required_placeholder(int)",
    "a placeholder": "config.bc.steps = config_dict.placeholder(int)",
    "a reference that fails": "config.bc.steps = FieldReference(3) // FieldReference(0)",
    "a field of a number": "config.bc = ConfigDict({3: 4})",
    "a function as a field": "config.bc.steps = len",
    "itself": "config.bc.config = config",
    "NUL in a path": "config.data.path = 'a' + chr(0)",
    "a lone surrogate": "config.data.path = chr(0xD800)",
}
PRELUDE = """
from ml_collections import ConfigDict, FieldReference, FrozenConfigDict, config_dict
from mmbc_jax.core.config import plugin
from mmbc_jax.runs.sections import base_config
"""


def files() -> dict[str, str | bytes]:
    """{kind: content of a config file}."""
    found: dict[str, str | bytes] = {f"at its top {kind}": code for kind, code in RAISED.items()}
    found |= {f"in get_config {kind}": f"def get_config():\n    {code}\n" for kind, code in RAISED.items()}
    found |= BROKEN
    found |= {
        f"returns {kind}": f"{PRELUDE}\ndef get_config():\n    return {code}\n" for kind, code in MADE.items()
    }
    found |= {
        f"sets {kind}": (
            f"{PRELUDE}\ndef get_config():\n    config = base_config()\n    config.env = plugin('env', 'landscape')\n"
            f"    with config.unlocked(), config.ignore_type():\n        {code}\n    return config\n"
        )
        for kind, code in CHANGED.items()
    }
    return found


@pytest.mark.parametrize("kind", files())
def test_a_config_file(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    content = files()[kind]
    path = tmp_path / "mine.py"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    refusal(train.main, ["--config", path, "--workdir", tmp_path / "run"], tmp_path)


@pytest.mark.parametrize("kind", [*RAISED, *BROKEN])
def test_a_study_file(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    content = RAISED.get(kind) or BROKEN[kind]
    if kind in RAISED:
        content = f"def get_studies(scale):\n    {content}\n"
    path = tmp_path / "mine.py"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    refusal(study.main, ["--config", path, "--workdir", tmp_path / "runs"], tmp_path)


@pytest.mark.parametrize("made", ["None", "3", "[]", "[3]", "{}", "'text'"])
def test_studies_of_the_wrong_kind(tmp_path, made):
    (tmp_path / "mine.py").write_text(f"def get_studies(scale):\n    return {made}\n")
    said = refusal(study.main, ["--config", tmp_path / "mine.py", "--workdir", tmp_path / "runs"], tmp_path)
    assert "get_studies() must return a list" in said or "fails" in said


@pytest.mark.parametrize("main", [train.main, study.main], ids=["train", "study"])
def test_what_is_no_file(tmp_path, monkeypatch, main):
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "loop.py").symlink_to(tmp_path / "loop.py")
    (tmp_path / "folder.py").mkdir()
    for path in (
        "missing.py",
        "",
        "pipe.py",
        "loop.py",
        "folder.py",
        "a" * 300,
        "b/" * 3000,
        "c\0d",
        "/dev/null",
        ".",
    ):
        assert "--config" in refusal(main, [f"--config={path}", "--workdir", tmp_path / "run"], tmp_path)


def test_the_line_is_named(tmp_path):
    (tmp_path / "mine.py").write_text("\n\ndef get_config():\n    import sys\n    sys.exit(0)\n")
    said = refusal(train.main, ["--config", tmp_path / "mine.py"], tmp_path)
    assert "mine.py fails at line 5: SystemExit: 0" in said


def test_a_file_that_has_changed_is_read_anew(tmp_path):
    """Within the second and of the same length, which a cache of bytecode would not see."""
    path = tmp_path / "mine.py"
    for steps in (3, 4):
        body = f"    config = base_config()\n    config.bc.steps = {steps}\n    return config\n"
        path.write_text(f"{PRELUDE}\ndef get_config():\n{body}")
        assert train.parse(["--config", str(path)])[0].bc.steps == steps
    assert [one.name for one in tmp_path.iterdir()] == ["mine.py"]
