"""How many distinct inputs the tests refuse, by kind; stores, config files and checkpoints in the slow half."""

from __future__ import annotations

from tests.malformed import archives, damage, stores
from tests.malformed.kinds import distinct, texts, values
from tests.malformed.test_command_lines import MAINS, NUMBERS, PATHS
from tests.malformed.test_config_files import BROKEN, MADE, RAISED, files
from tests.malformed.test_contradictions import PAIRS
from tests.malformed.test_options import SHARE


def counts() -> dict[str, int]:
    """{kind: number of distinct inputs}."""
    overrides = {
        (target.path, target.selected, text) for target in distinct() for text in texts(target).values()
    }
    given = [(target.path, target.selected, kind) for target in distinct() for kind in values(target)]
    return {
        "overrides": len(overrides) // SHARE,
        "values of config files": len(set(given)) // SHARE,
        "archives": len(archives.from_changes()) + len(archives.of_archives()),
        "stores": len(stores.of_zarr(2)) + len(stores.of_zarr(3)) + len(stores.of_zarr_zips()),
        "checkpoints": 2 * len(damage.kinds()),
        "config files": len(set(files().values())) + len(RAISED) + len(BROKEN) + len(MADE),
        "contradictions": len(PAIRS),
        "command lines": 18 * len(MAINS) + 12 * sum(map(len, PATHS.values())) + 3 * len(NUMBERS),
    }


def test_there_are_more_than_enough():
    found = counts()
    assert min(found.values()) >= 30, found
    assert sum(found.values()) >= 2500, found
    assert all(found[kind] >= 200 for kind in ("overrides", "values of config files", "stores"))
