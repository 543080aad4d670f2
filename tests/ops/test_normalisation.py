import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.preprocessing import MinMaxScaler

from mmbc_jax.core.observations import ObsEntry, ObsSpec
from mmbc_jax.ops import normalisation
from mmbc_jax.ops.action_scale import action_scale
from mmbc_jax.ops.normalisation import Normalizer


def normalizer_of(low, high):
    bounds = jnp.asarray(low, jnp.float32), jnp.asarray(high, jnp.float32)
    return Normalizer(*bounds, *bounds)


def test_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    obs = (rng.normal(size=(50, 4)) * [1, 10, 0.1, 300]).astype(np.float32)
    action = rng.uniform(-5, 3, size=(50, 2)).astype(np.float32)
    normalizer = normalisation.fit(obs, action)
    for values, ours in ((obs, normalizer.normalize_obs(obs)), (action, normalizer.normalize_action(action))):
        reference = MinMaxScaler((-1, 1)).fit_transform(values.astype(np.float64))
        np.testing.assert_allclose(ours, reference, atol=1e-6)


def test_golden_values():
    # (512 + 0)/2 = 256, half 256: 0 -> -1, 128 -> -.5, 512 -> 1, 768 -> 2 (nothing is clipped).
    normalizer = normalizer_of([0.0], [512.0])
    values = jnp.asarray([[0.0], [128.0], [512.0], [768.0]])
    np.testing.assert_array_equal(normalizer.normalize_obs(values), [[-1], [-0.5], [1], [2]])
    np.testing.assert_array_equal(normalizer.denormalize_action(jnp.asarray([[-0.5]])), [[128]])


def test_physical_bounds_take_the_place_of_the_data_range():
    obs, action = np.zeros((3, 1)), np.asarray([[0.001, 0.0], [-0.002, 0.0], [0.0, 0.0]])
    normalizer = normalisation.fit(obs, action, (-0.01, -0.02), (0.01, 0.02))
    np.testing.assert_allclose(normalizer.normalize_action(action)[:, 0], [0.1, -0.2, 0], atol=1e-6)
    # A dimension that the demonstrations never use keeps its meaning under physical bounds.
    np.testing.assert_allclose(normalizer.denormalize_action(jnp.ones(2)), [0.01, 0.02], rtol=1e-6)


def test_infinite_bounds_fall_back_to_the_data():
    action = np.asarray([[-3.0, 5.0], [4.0, 6.0]])
    normalizer = normalisation.fit(np.zeros((2, 1)), action, (-np.inf, 0.0), (np.inf, 10.0))
    np.testing.assert_array_equal(normalizer.action_low, [-3, 0])
    np.testing.assert_array_equal(normalizer.action_high, [4, 10])


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 1e6, 1e30, 8e37])
@pytest.mark.parametrize("offset", [0.0, 0.9])
def test_round_trip_at_every_scale(scale, offset):
    rng = np.random.default_rng(1)
    obs = (scale * (offset + (1 - offset) * rng.uniform(-1, 1, size=(200, 3)))).astype(np.float32)
    normalizer = normalisation.fit(obs, obs)
    scaled = np.asarray(normalizer.normalize_obs(obs))
    assert np.isfinite(scaled).all()
    # Extremes reach the ends; error of mid and half are a few ulp of the largest value over half.
    tolerance = 8 * np.finfo(np.float32).eps / (1 - offset)
    np.testing.assert_allclose(scaled.min(axis=0), -1, atol=tolerance)
    np.testing.assert_allclose(scaled.max(axis=0), 1, atol=tolerance)
    back = np.asarray(normalizer.denormalize_obs(scaled), np.float64)
    assert np.abs(back - obs).max() <= 8 * np.finfo(np.float32).eps * np.abs(obs.astype(np.float64)).max()


@pytest.mark.parametrize("constant", [0.0, 1.0, -7.25e-12, 3e38, 1e-42])
def test_constant_dimensions_map_to_zero_and_back(constant):
    obs = np.full((5, 2), constant, np.float32)
    obs[:, 1] = np.arange(5)
    normalizer = normalisation.fit(obs, obs)
    assert (normalizer.normalize_obs(obs)[:, 0] == 0).all()
    # 0 also for a value that was never recorded, where dividing by a tiny range would explode.
    assert normalizer.normalize_obs(np.asarray([123.0, 2.0], np.float32))[0] == 0
    back = normalizer.denormalize_obs(jnp.asarray([[0.0, 0.0], [0.7, 0.0]]))
    np.testing.assert_allclose(back[:, 0], constant, rtol=1e-6, atol=1e-37)


def test_a_range_of_rounding_counts_as_constant():
    one_up = np.nextafter(np.float32(1), np.float32(2))
    obs = np.asarray([[1.0], [one_up]], np.float32)
    assert (normalisation.fit(obs, obs).normalize_obs(obs) == 0).all()
    wider = np.asarray([[1.0], [1.1]], np.float32)
    np.testing.assert_allclose(normalisation.fit(wider, wider).normalize_obs(wider), [[-1], [1]], atol=1e-3)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_what_hardly_varies_is_not_blown_up(unit):
    """A range of 6e-5 at a height of .5 made 314 of a deviation of .01."""
    resting = 0.5 + 3e-5 * np.sin(np.arange(200.0))
    obs = (unit * np.stack([resting, np.sin(np.arange(200.0))], 1)).astype(np.float32)
    fitted = normalisation.fit(obs, obs)
    scaled = np.asarray(fitted.normalize_obs(obs))
    assert np.abs(scaled[:, 0]).max() < 0.02
    np.testing.assert_allclose(np.abs(scaled[:, 1]).max(), 1.0, atol=1e-5)
    met = np.asarray(fitted.normalize_obs(obs + np.float32(0.01 * unit)))
    assert np.abs(met[:, 0]).max() < 5.0
    np.testing.assert_allclose(fitted.denormalize_obs(scaled), obs, rtol=1e-5)
    # the same of actions that no box bounds, and of what an environment declares to be wide
    assert np.abs(np.asarray(fitted.normalize_action(obs))[:, 0]).max() < 0.02
    declared = ObsSpec.vector(2, low=(-100.0 * unit, -1.0), high=(100.0 * unit, 1.0))
    wide = np.asarray(normalisation.fit(obs, obs, spec=declared).normalize_obs(obs))
    np.testing.assert_allclose(np.abs(wide[:, 0]).max(), 3e-5 * 2 / 2, rtol=0.05)


def test_traced_and_mapped_over_bounds():
    low, high = jnp.asarray([[0.0, 0.0], [1.0, 5.0]]), jnp.asarray([[2.0, 0.0], [3.0, 9.0]])
    mapped = jax.jit(jax.vmap(lambda n, x: n.normalize_obs(x)))(
        Normalizer(low, high, low, high), jnp.asarray([[1.5, 4.0], [1.5, 8.0]])
    )
    np.testing.assert_allclose(mapped, [[0.5, 0.0], [-0.5, 0.5]])
    gradient = jax.grad(lambda x: normalizer_of([0.0, 1.0], [4.0, 1.0]).normalize_obs(x).sum())(jnp.ones(2))
    np.testing.assert_array_equal(gradient, [0.5, 0.0])  # 1 / half; 0 and not NaN where constant


@pytest.mark.parametrize(
    ("obs", "action", "low", "high", "message"),
    [
        (np.zeros((0, 2)), np.zeros((0, 1)), None, None, "needs rows"),
        (np.zeros(3), np.zeros((3, 1)), None, None, "needs rows"),
        (np.zeros((3, 2)), np.zeros((3, 2)), (0.0, 1.0), (1.0, 0.0), "exceeds"),
        (np.zeros((3, 2)), np.zeros((3, 1)), (0.0, 1.0), (1.0, 2.0), "do not fit"),
    ],
)
def test_refuses(obs, action, low, high, message):
    with pytest.raises(ValueError, match=message):
        normalisation.fit(obs, action, low, high)


def test_dicts_scale_their_vectors_and_leave_images_alone():
    rng = np.random.default_rng(0)
    obs = {
        "image": rng.integers(0, 256, (5, 4, 4, 3), np.uint8),
        "a": rng.normal(size=(5, 2)),
        "b": np.arange(5.0),
    }
    obs["b"] = np.stack([obs["b"], np.full(5, 7.0)], 1)
    normalizer = normalisation.fit(obs, np.ones((5, 1)))
    assert set(normalizer.obs_low) == set(normalizer.obs_high) == {"a", "b"}
    obs = {name: jnp.asarray(rows) for name, rows in obs.items()}
    scaled = normalizer.normalize_obs(obs)
    assert scaled["image"] is obs["image"]
    for name in ("a", "b"):  # each entry as it would be alone
        alone = normalisation.fit(np.asarray(obs[name]), np.ones((5, 1)))
        np.testing.assert_array_equal(scaled[name], alone.normalize_obs(obs[name]))
    np.testing.assert_array_equal(scaled["b"][:, 1], np.zeros(5))  # constant
    back = normalizer.denormalize_obs(scaled)
    assert back["image"] is obs["image"]
    np.testing.assert_allclose(back["a"], obs["a"], atol=1e-6)
    with pytest.raises(TypeError, match="both be dicts"):
        normalizer.normalize_obs(obs["a"])


def test_images_alone_have_no_bounds():
    images = {"image": np.zeros((2, 4, 4, 3), np.uint8)}
    normalizer = normalisation.fit(images, np.ones((2, 1)))
    assert normalizer.obs_low == normalizer.obs_high == {}
    assert normalizer.with_history(3).obs_low == {}
    images = {"image": jnp.asarray(images["image"])}
    assert normalizer.normalize_obs(images)["image"].dtype == np.uint8


def test_angles_and_quaternions_keep_their_values():
    spec = ObsSpec.vector(6, angles=(0,), quaternions=(2,))
    obs = np.random.default_rng(0).uniform(-3, 3, (20, 6)).astype(np.float32)
    scaled = normalisation.fit(obs, obs, spec=spec).normalize_obs(obs)
    np.testing.assert_array_equal(scaled[:, [0, 2, 3, 4, 5]], obs[:, [0, 2, 3, 4, 5]])
    np.testing.assert_array_equal(scaled[:, 1], normalisation.fit(obs, obs).normalize_obs(obs)[:, 1])
    named = ObsSpec.of({"pose": ObsEntry((6,), angles=(1,)), "other": ObsEntry((6,))})
    mixed = normalisation.fit({"pose": obs, "other": obs}, obs, spec=named)
    np.testing.assert_array_equal(mixed.obs_low["pose"][1], -1.0)
    np.testing.assert_array_equal(mixed.obs_low["other"], obs.min(0))
    with pytest.raises(ValueError, match=r"entries \['pose'\], not \['other', 'pose'\]"):
        normalisation.fit({"pose": obs}, obs, spec=named)


@pytest.mark.parametrize("named", [False, True])
def test_history_has_the_same_bounds_at_every_step(named):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(6, 2)).astype(np.float32)
    obs = {"state": rows, "image": np.zeros((6, 2, 2, 1), np.uint8)} if named else rows
    single = normalisation.fit(obs, rows)
    longer = single.with_history(3)
    three = np.concatenate([rows[:4], rows[1:5], rows[2:]], 1)  # the oldest first
    seen = {"state": three, "image": np.zeros((4, 2, 2, 3), np.uint8)} if named else three
    scaled, parts = longer.normalize_obs(seen), single.normalize_obs(obs)
    if named:
        scaled, parts = scaled["state"], parts["state"]
    np.testing.assert_array_equal(scaled, jnp.concatenate([parts[:4], parts[1:5], parts[2:]], 1))
    assert single.with_history(1) is single


BOX = np.asarray([-1.0, -1.0, -1.0]), np.asarray([1.0, 1.0, 1.0])


def narrow_actions(rows=400):
    """Columns that fill 7 % of the box, all of it, and one number of it."""
    t = np.linspace(-1, 1, rows)
    return np.stack([0.3 + 0.07 * t, t, np.full(rows, 0.25)], 1).astype(np.float32)


def test_actions_are_scaled_by_the_data_where_they_fill_little_of_the_box():
    action = narrow_actions()
    found = action_scale(action, *BOX, "auto")
    assert found.own.tolist() == [True, False, False]
    np.testing.assert_allclose(found.filled, [0.07, 1.0, 0.0], atol=1e-6)
    assert "columns 0: 7 % of the environment's bounds (data.scale=auto)" in found.line
    fitted = normalisation.fit(action, action, *BOX, scale="auto")
    scaled = np.asarray(fitted.normalize_action(action))
    np.testing.assert_allclose(np.ptp(scaled[:, :2], axis=0), 2.0, rtol=1e-5)
    np.testing.assert_allclose(scaled[:, 2], 0.25)  # what the data never change keeps the box
    # -1 and 1 of the policy are the data's ends in the box; beyond, the box is still reached
    np.testing.assert_allclose(fitted.to_box(jnp.asarray(scaled)), action, atol=1e-6)
    np.testing.assert_allclose(fitted.from_box(jnp.asarray(action)), scaled, atol=1e-5)
    far = jnp.asarray([10.0, 1.0, 1.0])
    np.testing.assert_allclose(fitted.to_box(far), [1.0, 1.0, 1.0], atol=1e-6)


@pytest.mark.parametrize(
    ("rule", "low", "high"),
    [
        ("box", [-1, -1, -1], [1, 1, 1]),
        ("data", [0.23, -1, -1], [0.37, 1, 1]),
        ("quantile", [0.3 - 0.07 * 0.98, -0.98, -1], [0.3 + 0.07 * 0.98, 0.98, 1]),
        # of a uniform variable on [-1, 1] the standard deviation is 1 / sqrt(3)
        ("mean_std", [0.3 - 0.07 / 3**0.5, -(3**-0.5), -1], [0.3 + 0.07 / 3**0.5, 3**-0.5, 1]),
    ],
)
def test_every_rule_of_the_scale(rule, low, high):
    fitted = normalisation.fit(narrow_actions(), narrow_actions(), *BOX, scale=rule)
    np.testing.assert_allclose(fitted.action_low, low, atol=2e-3)
    np.testing.assert_allclose(fitted.action_high, high, atol=2e-3)
    assert (fitted.box is None) == (rule == "box")


def test_quantiles_survive_an_outlier_and_a_column_that_seldom_moves():
    action = narrow_actions()
    action[7, 1] = 1e4
    action[:, 2] = 0.0
    action[3, 2] = 1.0  # within the last hundredth: the quantiles are one number
    fitted = normalisation.fit(action, action, scale="quantile")
    assert 1.9 < float(fitted.action_high[1] - fitted.action_low[1]) < 2.1
    np.testing.assert_array_equal([fitted.action_low[2], fitted.action_high[2]], [0.0, 1.0])
    assert fitted.box is None  # nothing says what an environment takes


def test_a_range_of_next_to_nothing_of_the_box_is_widened():
    action = np.zeros((50, 1), np.float32)
    action[::2] = 1e-6
    fitted = normalisation.fit(action, action, [-1.0], [1.0], scale="data")
    np.testing.assert_allclose(fitted.action_high - fitted.action_low, [2e-3], rtol=1e-4)


def test_where_both_scales_agree_nothing_is_computed():
    action = narrow_actions()
    for scale, low, high in (("box", *BOX), ("auto", *BOX), ("auto", None, None)):
        rows = action[:, 1:2].repeat(3, 1)
        fitted = normalisation.fit(rows, rows, low, high, scale=scale)
        assert fitted.box is None
        chunk = jnp.ones((2, 3))
        assert fitted.to_box(chunk) is chunk
        assert fitted.from_box(chunk) is chunk


def test_a_column_without_bounds_is_taken_as_the_policy_answers():
    action = narrow_actions()
    fitted = normalisation.fit(action, action, [-1, -np.inf, -1], [1, np.inf, 1], scale="auto")
    y = jnp.asarray([0.0, 0.7, 0.0])
    np.testing.assert_allclose(fitted.to_box(y)[1], 0.7, rtol=1e-5)
    assert "end" not in action_scale(action, *BOX, "auto").line
    free = action_scale(action, -np.inf * np.ones(3), np.inf * np.ones(3), "auto")
    assert free.line == "actions: -1 and 1 are the ends of what the data say (data.scale=auto)"
    assert free.facts()["filled"] == [None] * 3
