"""Every option of every plug-in and section with bad values of every kind, by override and by config file."""

from __future__ import annotations

import pytest

from tests.malformed.calls import CONFIG, checked, failures, giving, refusal
from tests.malformed.kinds import Target, distinct, targets, texts, values

SHARE = 5  # of all cases, one in so many in every run of the tests; coprime to the number of kinds


def overrides(chosen: list[Target]) -> dict:
    """{name: (arguments, what is said)} of the command lines."""
    return {
        f"{target.choice} {target.path} {kind}": (
            ["--config", CONFIG, *target.choice, f"--config.{target.path}={text}"],
            f"config.{target.path} = ",
        )
        for target in chosen
        for kind, text in texts(target).items()
    }


def refused_in_files(chosen: list[Target], share: int = 1) -> list[str]:
    """One line for every `share`-th value of a config file that is not refused as it must be."""
    found = []
    cases = [(target, kind, value) for target in chosen for kind, value in values(target).items()]
    for target, kind, value in cases[::share]:
        with giving(lambda config, target=target, value=value: target.put(config, value)):
            found += failures(
                checked, {f"{target.path} {kind}": (["--config", CONFIG], f"config.{target.path} = ")}
            )
    return found


def test_overrides(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cases = overrides(distinct())
    assert not failures(checked, dict(list(cases.items())[::SHARE]))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_values_of_config_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not refused_in_files(distinct(), SHARE)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_overrides_of_every_plug_in():
    assert not failures(checked, overrides(targets()))


@pytest.mark.slow
def test_values_of_config_files_of_every_plug_in():
    assert not refused_in_files(targets())


def test_what_is_good_passes():
    """So that the above does not pass for another reason."""
    for argv in ([], ["--config.bc.learning_rate=1"], ["--config.policy.hidden=8,8"]):
        assert checked(["--config", str(CONFIG), *argv]) == 0
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE|did not raise"):
        refusal(lambda argv: pytest.fail("did not raise"), [])
