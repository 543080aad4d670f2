"""The model card says what the summary says, and what it cannot say."""

from __future__ import annotations

import json

from mmbc_jax.report import card_page
from mmbc_jax.report.card_page import page
from mmbc_jax.report.model_card import limits
from tests.toys.landscape import finished_run

NAMES = ["left", "right", "over"]


def stage(share, control=None):
    """Metrics of a stage of one seed; `control` [Z][K + 1] episodes by command and mode, failures last."""
    found = {"mode_share": {"per_seed": [share]}}
    if control is not None:
        found["z_mode_table"] = {"per_seed": [control]}
        found["success_per_z"] = {"per_seed": [[sum(row[:-1]) / sum(row) for row in control]]}
        found["wilson95_per_z"] = {"per_seed": [[[0.1, 0.9]] * len(control)]}
    return found


def summary(stages, **run):
    facts = {"env": "ways", "seeds": [0], "stopped": {}}
    return {"stages": stages, "run": facts | run}


def test_a_run_ends_with_a_card():
    card = json.loads((finished_run() / "model_card.json").read_text())
    found = json.loads((finished_run() / "summary.json").read_text())
    for name, metrics in found["stages"].items():
        result = card["results"][0]["stages"][name]
        for figure in ("success_rate", "mean_reward", "modes_kept"):
            assert result[figure] == {
                key: metrics[figure].get(key) for key in ("mean", "ci95", "per_seed", "n")
            }
        for row in (row for rows in result["control"] for row in rows):
            assert (
                row["success"]
                in metrics["success_per_z"]["per_seed"][0] + metrics["success_per_z"]["per_seed"][1]
            )
    assert card["data"]["fingerprint"] == found["run"]["data"]["fingerprint"]
    assert (card["model"]["stage"], card["model"]["commands"], card["licence"]) == ("finetune", 2, None)
    assert card["versions"] == found["run"]["versions"]
    text = (finished_run() / "model_card.md").read_text()
    assert text == page(card)
    assert text.startswith("# Model card: flow on landscape\n")
    assert card["data"]["fingerprint"] in text
    assert "\n## Known limits\n" in text
    assert str(finished_run()) not in text + json.dumps(card)


def test_lost_modes_and_commands_are_limits():
    clone = stage([0.4, 0.3, 0.3])
    tuned = stage([0.995, 0.005, 0.0], [[20, 0, 0, 1], [12, 8, 0, 0], [3, 0, 0, 9]])
    said = limits(summary({"bc": clone, "finetune": tuned}), "finetune", NAMES)
    assert "Modes that hold less than 1 % of the successes in every seed: right, over." in said
    assert "Of these the clone (stage bc) still had: right, over." in said
    assert any("fewer than 5: z 1, 2." in line for line in said)
    assert "Modes that no command leads to: right, over." in said
    assert any(line.startswith("One seed was trained") for line in said)
    assert any(line.startswith("No other setting was played; perturbations beyond") for line in said)


def test_what_was_played_and_kept_is_no_limit():
    tuned = stage([0.4, 0.3, 0.3], [[20, 0, 0, 1], [0, 20, 0, 0], [0, 0, 9, 9]])
    tuned["shifts"] = {"gust": {}, "late=2": {}}
    found = summary({"finetune": tuned}, seeds=[0, 1], stopped={"bc": [[0, 1, 5]]})
    said = limits(found, "finetune", NAMES)
    assert said == [
        "Other settings that were played: gust, late=2; perturbations beyond those of the training are not tested.",
        "It was played in simulation alone.",
        "Stage bc: 1 run(s) diverged and are in no figure.",
    ]


def test_without_a_simulator():
    said = limits(summary({"bc": {}}, env=""), "bc", [])
    assert said[0].startswith("No episode was played")
    assert not any("setting" in line for line in said)


def test_a_task_without_success_has_its_return():
    entry = {"mean": 2.0, "ci95": [1.0, 3.0], "n": 4}
    text = card_page._point({"values": {}, "stages": {"finetune": {"mean_reward": entry}}}, named=False)
    assert "| finetune | – | 2.00 [1.00, 3.00] | – | – |" in text
