r"""Behavioral Mode Discovery in one file: a clone with several ways, and reinforcement that does not lose them.

    python scripts/single_file_bmd.py

1. Demonstrations go to four goals. A flow policy clones them: noise w ~ N(0, I) is carried by a learned velocity to
   a chunk of actions. Which goal it goes to is in the noise.
2. Reinforcement trains a head in front of the frozen clone only: pi_W(w | s, z) replaces N(0, I). z is drawn once an
   episode; it is a command that means nothing yet.
3. A discriminator q(z | path) guesses the command. Paid log q(z | path) - log p(z), the head gives commands a
   meaning: *discovery* by this alone, over a growing horizon, then *fine-tuning* on the task's reward plus lambda
   times it.

One goal pays more than the others. So ordinary fine-tuning (one z, lambda = 0) keeps one goal of four; with the
reward for telling z apart all four stay, and each answers to a command.

Source: arXiv 2605.11387; how the head starts and how an episode is paid is ours (docs/architecture.md). The pieces
compute what those of the package do: tests/test_single_file_bmd.py.
"""

from __future__ import annotations

import argparse
import functools
import math
import time
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

Array, Params = jax.Array, Any

# The task: a point in the plane and four goals; the last of 16 control steps pays a peak around the nearest goal.
STEPS, CHUNK, MAX_STEP, START_STD, WIDTH, RADIUS = 16, 4, 0.15, 0.05, 0.2, 0.2
ANGLES = math.pi / 4 + math.pi / 2 * jnp.arange(4)
GOALS = jnp.stack([jnp.cos(ANGLES), jnp.sin(ANGLES)], -1)  # [4, 2]
HEIGHTS = jnp.array([1.0, 0.8, 0.8, 0.8])
DECISIONS, SIZE = STEPS // CHUNK, 2 * CHUNK  # decisions of an episode; numbers of a chunk
# The method.
EULER_STEPS = 5
INIT_STD, INIT_FEATURES, INIT_FREQUENCY = 0.3, 8, 1.5  # of the head at first; see `init`
BLUR = 0.3  # noise on what the discriminator sees: paths nearer than this count as one
GAMMA, GAE_LAMBDA, CLIP = 0.9987, 0.95, 0.2  # discount of a control step, and two numbers of PPO
EPOCHS, MINIBATCHES, LEARNING_RATE, CLIP_NORM = 4, 8, 1e-3, 0.5


class Settings(NamedTuple):
    """How much of everything."""

    episodes: int = 400  # demonstrated
    clone_steps: int = 2000
    clone_batch: int = 256
    envs: int = 256  # B
    discover: int = 20  # iterations by the reward for telling z apart alone
    finetune: int = 80  # iterations by the task's reward, too


class World(NamedTuple):
    """B running episodes."""

    position: Array  # [B, 2]
    decision: Array  # [B] decisions taken
    z: Array  # [B] the command
    path: Array  # [B, DECISIONS + 1, 2] positions at all decisions; those to come hold the present one


class MLP(nn.Module):
    """Dense layers with silu between them; the last one starts at 0."""

    hidden: tuple[int, ...]
    out: int

    @nn.compact
    def __call__(self, *parts: Array) -> Array:
        """[..., out] from parts [..., any], side by side."""
        x = jnp.concatenate(parts, -1)
        for width in self.hidden:
            x = nn.silu(nn.Dense(width)(x))
        return nn.Dense(self.out, kernel_init=nn.initializers.zeros)(x)


VELOCITY, HEAD, CRITIC = MLP((128,) * 3, SIZE), MLP((128, 128), SIZE), MLP((128, 128), 1)


def fourier(x: Array, octaves: int) -> Array:
    """[..., D (1 + 2 octaves)]: x, and sines and cosines of 2^k pi x."""
    angle = (x[..., None] * math.pi * 2.0 ** jnp.arange(octaves)).reshape(*x.shape[:-1], -1)
    return jnp.concatenate([x, jnp.sin(angle), jnp.cos(angle)], -1)


def time_features(t: Array) -> Array:
    """[..., 32] sines and cosines of a generation time t [...] in [0, 1], 1 to 100 rad."""
    angle = t[..., None] * jnp.geomspace(1.0, 100.0, 16)
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)


# ------------------------------------------------------------------------------------------ the task and the clone


def execute(position: Array, decision: Array, chunk: Array) -> tuple[Array, Array, Array]:
    """One decision of 4 control steps: (position [B, 2], discounted reward [B], goal reached [B], -1 for none)."""
    position = position + MAX_STEP * jnp.clip(chunk, -1.0, 1.0).sum(-2)
    distance = jnp.linalg.norm(position[:, None] - GOALS, axis=-1)
    nearest, last = distance.argmin(-1), decision + 1 == DECISIONS
    peak = HEIGHTS[nearest] * jnp.exp(-0.5 * (distance.min(-1) / WIDTH) ** 2)
    goal = jnp.where(last & (distance.min(-1) <= RADIUS), nearest, -1)
    return position, jnp.where(last, GAMMA ** (CHUNK - 1) * peak, 0.0), goal


def demonstrate(key: Array, episodes: int) -> tuple[Array, Array]:
    """(positions [n, 2], chunks [n, CHUNK, 2] from there on) of an expert that is pushed about and comes back."""
    goal = GOALS[jnp.arange(episodes) % 4]
    key_start, key_scan = jax.random.split(key)

    def step(position: Array, key: Array) -> tuple[Array, tuple[Array, Array]]:
        own, push = jax.random.normal(key, (2, *position.shape))
        action = jnp.clip(0.25 * (goal - position) / MAX_STEP + 0.1 * own, -1.0, 1.0)
        return position + MAX_STEP * jnp.clip(action + 0.2 * push, -1.0, 1.0), (position, action)

    start = START_STD * jax.random.normal(key_start, goal.shape)
    positions, actions = jax.lax.scan(step, start, jax.random.split(key_scan, STEPS))[1]
    first = jnp.arange(STEPS - CHUNK + 1)
    chunks = jnp.swapaxes(actions[first[:, None] + jnp.arange(CHUNK)], 1, 2)
    return positions[first].reshape(-1, 2), chunks.reshape(-1, CHUNK, 2)


def velocity(clone: Params, x: Array, t: Array, obs: Array) -> Array:
    """v(x, t, s) [B, CHUNK, 2] at times t [B]."""
    return VELOCITY.apply(clone, x.reshape(-1, SIZE), time_features(t), fourier(obs, 2)).reshape(x.shape)


def flow_loss(clone: Params, key: Array, obs: Array, chunk: Array) -> Array:
    """Flow matching: on the line from noise x0 (t = 0) to data x1 (t = 1) the velocity is x1 - x0."""
    key_noise, key_time = jax.random.split(key)
    noise, t = jax.random.normal(key_noise, chunk.shape), jax.random.uniform(key_time, chunk.shape[:1])
    x = t[:, None, None] * chunk + (1.0 - t[:, None, None]) * noise
    return jnp.square(velocity(clone, x, t, obs) - (chunk - noise)).mean()


def transport(clone: Params, obs: Array, noise: Array) -> Array:
    """Chunk [B, CHUNK, 2] of noise [B, SIZE]: Euler's method from t = 0 to t = 1."""

    def step(x: Array, t: Array) -> tuple[Array, None]:
        return x + velocity(clone, x, jnp.full(len(x), t), obs) / EULER_STEPS, None

    return jax.lax.scan(step, noise.reshape(-1, CHUNK, 2), jnp.arange(EULER_STEPS) / EULER_STEPS)[0]


@functools.partial(jax.jit, static_argnums=1)
def cloned(key: Array, settings: Settings) -> Params:
    """Parameters of the clone."""
    key_data, key_init, key_scan = jax.random.split(key, 3)
    obs, chunk = demonstrate(key_data, settings.episodes)
    adam = optax.adam(optax.cosine_decay_schedule(2e-3, settings.clone_steps, 0.01))

    def step(carry: tuple, key: Array) -> tuple[tuple, None]:
        clone, state = carry
        key_batch, key_loss = jax.random.split(key)
        rows = jax.random.randint(key_batch, (settings.clone_batch,), 0, len(obs))
        updates, state = adam.update(jax.grad(flow_loss)(clone, key_loss, obs[rows], chunk[rows]), state)
        return (optax.apply_updates(clone, updates), state), None

    clone = VELOCITY.init(key_init, jnp.zeros((1, SIZE)), time_features(jnp.zeros(1)), fourier(obs[:1], 2))
    return jax.lax.scan(step, (clone, adam.init(clone)), jax.random.split(key_scan, settings.clone_steps))[0][
        0
    ]


# -------------------------------------------------------------------- what is trained: head, critic, discriminator


def init(key: Array, modes: int) -> Params:
    """Parameters whose head is, mixed over z, the clone's own noise N(0, I), already split by z.

    The head's mean is C_z psi(s) + MLP(s, z). psi are random Fourier features with |psi| = 1 and C_z has entries of
    variance 1 - sigma_0^2, which is left to the spread. With one z the head is N(0, I).
    """
    key_mix, key_head, key_frequency, key_critic, key_q = jax.random.split(key, 5)
    std, seen, command = INIT_STD if modes > 1 else 1.0, fourier(jnp.zeros((1, 2)), 4), jnp.zeros((1, modes))
    head = {
        "frequency": INIT_FREQUENCY * jax.random.normal(key_frequency, (2, INIT_FEATURES)),
        "mix": math.sqrt(1.0 - std**2) * jax.random.normal(key_mix, (modes, 2 * INIT_FEATURES, SIZE)),
        "network": HEAD.init(key_head, seen, command),
        "log_std": jnp.full((modes, SIZE), math.log(std)),
    }
    q = MLP((128, 128), modes).init(key_q, jnp.zeros((1, 2 * (DECISIONS + 1) + 1)))
    return {"head": head, "critic": CRITIC.init(key_critic, seen, command, jnp.zeros((1, 1))), "q": q}


def num_modes(params: Params) -> int:
    """Z."""
    return len(params["head"]["log_std"])


def moments(head: Params, obs: Array, z: Array) -> tuple[Array, Array]:
    """(mean, log standard deviation) of the noise, each [B, SIZE]."""
    angle = obs @ jax.lax.stop_gradient(head["frequency"])
    psi = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1) / math.sqrt(INIT_FEATURES)
    command = jax.nn.one_hot(z, len(head["log_std"]))
    mean = jnp.einsum("bf,bz,zfw->bw", psi, command, head["mix"])
    return mean + HEAD.apply(head["network"], fourier(obs, 4), command), command @ head["log_std"]


def log_density(noise: Array, mean: Array, log_std: Array) -> Array:
    """[B] log N(noise; mean, exp(log_std)^2) of noise [B, SIZE]."""
    scaled = (noise - mean) * jnp.exp(-log_std)
    return (-0.5 * jnp.square(scaled) - log_std - 0.5 * math.log(2.0 * math.pi)).sum(-1)


def value_of(params: Params, obs: Array, z: Array, decision: Array) -> Array:
    """[...] V(s, z, t), with t the share of the episode that has passed."""
    command = jax.nn.one_hot(z, num_modes(params))
    return CRITIC.apply(params["critic"], fourier(obs, 4), command, (decision / DECISIONS)[..., None])[..., 0]


def log_q(params: Params, key: Array, path: Array, decision: Array, z: Array) -> Array:
    """[...] log q(z | path so far, blurred): every remembered position is blurred once, its copies alike."""
    seen = jnp.concatenate([path.reshape(*z.shape, -1), (decision / DECISIONS)[..., None]], -1)
    noise = jax.random.normal(key, seen.shape)
    slots = noise[..., :-1].reshape(path.shape)
    copies = (jnp.arange(DECISIONS + 1) >= decision[..., None])[..., None]
    slots = jnp.where(copies, slots[..., -1:, :], slots).reshape(*z.shape, -1)
    blurred = seen + BLUR * jnp.concatenate([slots, noise[..., -1:]], -1)
    modes = num_modes(params)
    each = jax.nn.log_softmax(MLP((128, 128), modes).apply(params["q"], blurred))
    return (each * jax.nn.one_hot(z, modes)).sum(-1)


# --------------------------------------------------------------------------------------------------- reinforcement


def begin(key: Array, envs: int, modes: int) -> World:
    """B episodes at their start."""
    key_start, key_z = jax.random.split(key)
    position = START_STD * jax.random.normal(key_start, (envs, 2))
    path = jnp.repeat(position[:, None], DECISIONS + 1, 1)
    return World(position, jnp.zeros(envs, int), jax.random.randint(key_z, (envs,), 0, modes), path)


def remember(path: Array, decision: Array, position: Array) -> Array:
    """The path [B, DECISIONS + 1, 2] after the decision-th decision [B] led to a position [B, 2]."""
    later = jnp.arange(DECISIONS + 1) >= decision[:, None]
    return jnp.where(later[..., None], position[:, None], path)


def play(
    params: Params, clone: Params, world: World, key: Array, horizon: Array
) -> tuple[World, dict[str, Array]]:
    """Takes T = DECISIONS decisions; an episode ends after `horizon` of them: (world, what was seen [T, B])."""

    def decide(world: World, key: Array) -> tuple[World, dict[str, Array]]:
        key_noise, key_begin = jax.random.split(key)
        mean, log_std = moments(params["head"], world.position, world.z)
        noise = mean + jnp.exp(log_std) * jax.random.normal(key_noise, mean.shape)
        chunk = transport(clone, world.position, noise)
        position, reward, goal = execute(world.position, world.decision, chunk)
        decision = world.decision + 1
        path, done = remember(world.path, decision, position), decision >= horizon
        seen = {"obs": world.position, "decision": world.decision, "z": world.z, "noise": noise}
        seen |= {"path": path, "next_obs": position, "reward": reward, "goal": goal, "done": done * 1.0}
        seen["log_prob"] = log_density(noise, mean, log_std)
        fresh, on = begin(key_begin, len(done), num_modes(params)), World(position, decision, world.z, path)
        return jax.tree.map(functools.partial(jax.vmap(jnp.where), done), fresh, on), seen

    return jax.lax.scan(decide, world, jax.random.split(key, DECISIONS))


def payment(told: Array, failed: Array, modes: int) -> Array:
    """[...] (log q - log p) / DECISIONS in nats for log q = `told`; an episode that fails forfeits the end's."""
    return (told + math.log(modes)) * (1.0 - failed) / DECISIONS


def gae(reward: Array, value: Array, next_value: Array, final: Array, done: Array) -> tuple[Array, Array]:
    """(advantages, value targets) [T, B]: a cut bootstraps from where it cut, the end does not; both stop the sum."""
    discount = GAMMA**CHUNK
    delta = reward + discount * (1.0 - final) * next_value - value

    def backward(after: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        advantage = step[0] + discount * GAE_LAMBDA * (1.0 - step[1]) * after
        return advantage, advantage

    advantage = jax.lax.scan(backward, jnp.zeros_like(delta[0]), (delta, done), reverse=True)[1]
    return advantage, advantage + value


def surrogate(log_ratio: Array, advantage: Array) -> Array:
    """[B] PPO's loss: the ratio of new to old probability has nothing to gain beyond 1 -+ CLIP."""
    ratio = jnp.exp(log_ratio)
    return -jnp.minimum(ratio * advantage, jnp.clip(ratio, 1.0 - CLIP, 1.0 + CLIP) * advantage)


def loss(params: Params, key: Array, batch: dict[str, Array]) -> Array:
    """Of head, critic and discriminator; they share no parameters, so one optimiser does for all."""
    now = log_density(batch["noise"], *moments(params["head"], batch["obs"], batch["z"]))
    value = value_of(params, batch["obs"], batch["z"], batch["decision"])
    told = log_q(params, key, batch["path"], batch["decision"] + 1, batch["z"])
    actor = surrogate(now - batch["log_prob"], batch["advantage"])
    return (actor + jnp.square(value - batch["target"]) - told).mean()


def judged(
    params: Params, key: Array, seen: dict[str, Array], env_coef: Array, mi_coef: Array
) -> dict[str, Array]:
    """What was seen, with advantages and targets, flat [T B]."""
    final = (seen["decision"] + 1 == DECISIONS) * 1.0
    told = log_q(params, key, seen["path"], seen["decision"] + 1, seen["z"])
    intrinsic = payment(told, final * (seen["goal"] < 0), num_modes(params))
    value = value_of(params, seen["obs"], seen["z"], seen["decision"])
    next_value = value_of(params, seen["next_obs"], seen["z"], seen["decision"] + 1)
    reward = env_coef * seen["reward"] + mi_coef * intrinsic
    advantage, target = gae(reward, value, next_value, final, seen["done"])
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    batch = {**seen, "advantage": advantage, "target": target}
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)


@functools.partial(jax.jit, static_argnums=4)
def reinforced(
    params: Params, clone: Params, key: Array, stages: dict[str, Array], settings: Settings
) -> Params:
    """The parameters after a scan over iterations of playing, judging and passes of gradient steps.

    `stages` says of each iteration [iterations] its weights of both rewards and the horizon, so that what tells
    discovery from fine-tuning is data.
    """
    optimiser = optax.chain(optax.clip_by_global_norm(CLIP_NORM), optax.adam(LEARNING_RATE))

    def minibatch(carry: tuple, item: tuple) -> tuple[tuple, None]:
        (params, state), (batch, key) = carry, item
        updates, state = optimiser.update(jax.grad(loss)(params, key, batch), state)
        return (optax.apply_updates(params, updates), state), None

    def train_step(carry: tuple, item: tuple) -> tuple[tuple, None]:
        (params, state, world), (key, stage) = carry, item
        key_play, key_judge, key_learn = jax.random.split(key, 3)
        world, seen = play(params, clone, world, key_play, stage["horizon"])
        batch = judged(params, key_judge, seen, stage["env_coef"], stage["mi_coef"])

        def epoch(carry: tuple, key: Array) -> tuple[tuple, None]:
            key_order, key_blur = jax.random.split(key)
            order = jax.random.permutation(key_order, len(batch["z"])).reshape(MINIBATCHES, -1)
            parts = jax.tree.map(lambda x: x[order], batch)
            return jax.lax.scan(minibatch, carry, (parts, jax.random.split(key_blur, MINIBATCHES)))

        learned = jax.lax.scan(epoch, (params, state), jax.random.split(key_learn, EPOCHS))[0]
        return (*learned, world), None

    key_begin, key_scan = jax.random.split(key)
    start = params, optimiser.init(params), begin(key_begin, settings.envs, num_modes(params))
    return jax.lax.scan(train_step, start, (jax.random.split(key_scan, len(stages["horizon"])), stages))[0][0]


def schedule(settings: Settings, discovers: bool, mi_coef: float) -> dict[str, Array]:
    """[iterations] of `reinforced`: discovery over a growing horizon, or nothing of it; then fine-tuning."""
    i = jnp.arange(settings.discover + settings.finetune)
    early = (i < settings.discover) & discovers
    grown = DECISIONS / 2 * (1.0 + i / max(settings.discover - 1, 1))
    return {
        "env_coef": jnp.where(early, 0.0, 1.0),
        "mi_coef": jnp.where(early, 1.0, mi_coef),
        "horizon": jnp.where(early, jnp.ceil(grown), DECISIONS),
    }


# ------------------------------------------------------------------------------------------------------ evaluation


@functools.partial(jax.jit, static_argnums=3)
def evaluated(params: Params, clone: Params, key: Array, episodes: int = 1024) -> tuple[Array, Array]:
    """(episodes [Z, 5] by command and goal, the last column those that failed; mean log q + log Z, in nats)."""
    key_begin, key_play, key_q = jax.random.split(key, 3)
    modes = num_modes(params)
    world = begin(key_begin, episodes, modes)._replace(z=jnp.arange(episodes) % modes)
    seen = play(params, clone, world, key_play, jnp.asarray(DECISIONS))[1]
    last = jax.tree.map(lambda x: x[-1], seen)
    table = jax.nn.one_hot(last["z"], modes).T @ jax.nn.one_hot(last["goal"] % 5, 5)  # -1 % 5 = 4
    return table, log_q(params, key_q, last["path"], last["decision"] + 1, last["z"]).mean() + math.log(modes)


def figures(table: Array, bound: Array) -> dict[str, float]:
    """What is printed: a goal is kept with 1 % of successes, and commanded where some z goes there 4 times of 5."""
    wins = jax.device_get(table)[:, :4]
    kept = wins.sum(0) >= 0.01 * max(wins.sum(), 1)
    obeys = (wins.max(1) >= 0.8 * wins.sum(1)) & (wins.sum(1) >= 5)
    commanded = len(set(wins.argmax(1)[obeys].tolist()))
    success = float(wins.sum() / table.sum())
    return {"success": success, "kept": int(kept.sum()), "commanded": commanded, "bound": float(bound)}


def run(seed: int, settings: Settings, modes: int = 8, mi_coef: float = 0.5) -> dict[str, dict[str, float]]:
    """Figures of the clone, of fine-tuning with the reward for telling z apart, and of fine-tuning without."""
    keys = jax.random.split(jax.random.key(seed), 8)
    clone, several, one = cloned(keys[0], settings), init(keys[1], modes), init(keys[2], 1)
    found = {"clone": figures(*evaluated(one, clone, keys[3]))}  # one untrained z is the clone's own noise
    several = reinforced(several, clone, keys[4], schedule(settings, True, mi_coef), settings)
    one = reinforced(one, clone, keys[5], schedule(settings, False, 0.0), settings)
    found["with"] = figures(*evaluated(several, clone, keys[6]))
    return found | {"without": figures(*evaluated(one, clone, keys[7]))}


def main() -> None:
    """Prints a line for each seed and stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--mi_coef", type=float, default=0.5, help="lambda, against a task reward of order 1")
    args, began = parser.parse_args(), time.time()
    print("seed  MI reward  success  goals kept  commanded  MI bound [nats]")
    for seed in args.seeds:
        for name, row in run(seed, Settings(), mi_coef=args.mi_coef).items():
            print(
                f"{seed:4d}  {name:9s}  {row['success']:7.3f}  {row['kept']:5d} of 4  {row['commanded']:9d}"
                f"  {row['bound']:15.2f}"
            )
    print(f"{time.time() - began:.0f} s")


if __name__ == "__main__":
    main()
