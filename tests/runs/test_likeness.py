"""The command that an example stands for: by the discriminator's posterior, and by played paths."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core.errors import UserError
from mmbc_jax.evaluation.example import path_distance
from mmbc_jax.runs.likeness import most_like
from mmbc_jax.runs.restored import restore
from tests.toys.landscape import finished_run, unchecked


@functools.cache
def restored(stage="finetune"):
    return restore(finished_run(), stage, [])


@pytest.fixture(scope="module")
def played():
    with unchecked():
        return restored().evaluate(command=np.array([1, 0]))["finetune"].rollouts


def test_each_run_is_played_under_its_own_command(played):
    assert (played.z == np.array([[1], [0]])).all()


def test_a_whole_observation_is_judged_by_the_discriminator(played):
    """As in an evaluation: what it says of a played path is log q of its end, there under one draw of noise."""
    example = played.path[0, 0]
    found = most_like(restored(), example)
    assert found.rule == "posterior"
    np.testing.assert_allclose(found.scores.sum(1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(found.z, found.scores.argmax(1))
    stage = restored().stage
    reward = stage.parts.reward
    subject = stage.subject(jax.tree.map(lambda leaf: leaf[0], restored().state), jax.random.key(0))
    rows = subject.normalizer.normalize_obs(jnp.asarray(example)[jnp.array([0, 4, 8, 12, 16])])
    memory = reward.init_memory(rows[0])
    for row in rows[1:]:
        memory = reward.remember(memory, row)
    draws = jax.random.split(jax.random.key(1), 4096)
    log_q = jax.vmap(lambda key: reward.discriminator.log_prob(subject.reward, key, reward.features(memory)))(
        draws
    )
    # a probability has a deviation of .5 at most: 64 and 4096 draws differ by less than 4 (.5 / 8 + .5 / 64) = .28,
    # and this little trained q varies with its noise by a tenth of that
    np.testing.assert_allclose(found.scores[0], jnp.exp(log_q).mean(0), atol=0.03)


def test_a_longer_example_is_judged_by_played_paths():
    """Longer than an episode: the posterior does not fit. The mean distance to the paths of each z decides."""
    example = np.linspace((0.0, 0.0), (0.5, -0.2), 40).astype(np.float32)
    with unchecked():
        found = most_like(restored(), example)
        paths, _ = (
            restored()
            .programs()
            .evaluate(restored().stage, restored().state, restored().keys("evaluate/finetune/like"))
        )
    assert found.rule == "path"
    expected = np.zeros((2, 2))
    for run in range(2):
        for z in range(2):
            own = [i for i in range(4) if paths.z[run, i] == z]
            won = [i for i in own if paths.success[run, i]] or own
            expected[run, z] = np.mean([path_distance(example, paths.path[run, i]) for i in won])
    np.testing.assert_allclose(found.scores, expected)
    np.testing.assert_array_equal(found.z, expected.argmin(1))


@pytest.mark.parametrize(
    ("stage", "width", "said"),
    [
        ("finetune", 3, "rows of 3 numbers; a position has 2, and an observation of landscape 2"),
        ("bc", 2, "one z"),
    ],
)
def test_what_cannot_be_judged(stage, width, said):
    with pytest.raises(UserError, match=said):
        most_like(restored(stage), np.zeros((5, width), np.float32))
