"""The contracts between rooms. Everything above `core` sees policies and environments through these.

A generative policy is a base distribution `w ~ base(.|obs)` pushed through a transport map
`chunk = transport(obs, w)`. "Base" always means that distribution; the frozen pre-trained policy
in fine-tuning is the *reference*. See `core.types` for the shape legend.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxtyping import Float, Int, Shaped

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.types import (
    Array,
    Batch,
    EnvSpec,
    Key,
    Loss,
    PolicySpec,
    PyTree,
    State,
    Variables,
)

CaseT = TypeVar("CaseT", contravariant=True)
"""What an instrument looks at: `diagnostics.case.Case`, of which `core` knows nothing."""


@runtime_checkable
class Distribution(Protocol):
    """What is used of a distrax distribution."""

    def sample(self, *, seed: Key, sample_shape: tuple[int, ...] = ()) -> PyTree:
        """Draws w."""
        ...

    def log_prob(self, value: PyTree) -> Float[Array, "*draws"]:
        """Log density or mass, summed over event dimensions."""
        ...


class Prior(Protocol):
    """A base distribution over noise, latents or codes, on distrax."""

    gaussian: bool  # True where the base is exactly N(0, I), which stochastic samplers need
    trainable: bool  # True where `init` returns parameters that `loss` trains
    discrete: bool  # True where samples are integer codes
    needs_posterior: bool  # True where `distribution` is made of a policy's own posterior

    def init(self, key: Key) -> PyTree:
        """Parameters of the prior; an empty dict where it has none."""
        ...

    def distribution(self, params: PyTree, obs: Obs, posterior: Posterior | None = None) -> Distribution:
        """Distribution with the observations' leading axes as batch shape and the event shape it was built for.

        `posterior` is that of the policy, for priors that are made of it; others leave it alone.
        """
        ...

    def loss(
        self,
        params: PyTree,
        key: Key,
        obs: Obs,
        w: Shaped[Array, "*base"],
        posterior: Posterior | None = None,
    ) -> Float[Array, "*batch"]:
        """[...] what is minimised so that the prior follows samples w [..., *event]: -log p(w|obs), or a bound."""
        ...


Posterior = Callable[[Obs, Float[Array, "*batch H A"]], Distribution]
"""(obs, chunk [..., H, A]) to the distribution q(w | obs, chunk)."""

MakePrior = Callable[[tuple[int, ...]], Prior]
"""The configured prior for an event shape: what a policy's builder gets, since it alone knows that shape."""


@runtime_checkable
class Field(Protocol):
    """A learned generative field for one batch of observations, as samplers see it."""

    def velocity(
        self, x: Float[Array, "*batch H A"], t: Float[Array, "*#batch"]
    ) -> Float[Array, "*batch H A"]:
        """dx/dt at x [..., H, A] and time t [] or [...] in [0, 1]."""
        ...

    def denoise(
        self, x: Float[Array, "*batch H A"], t: Float[Array, "*#batch"]
    ) -> tuple[Float[Array, "*batch H A"], Float[Array, "*batch H A"]]:
        """(estimate of the data at t=1, estimate of the noise at t=0), each [..., H, A]."""
        ...

    def path(self, t: Float[Array, "*times"]) -> tuple[Float[Array, "*times"], Float[Array, "*times"]]:
        """(alpha, sigma) of x_t = alpha * data + sigma * noise."""
        ...


def native(field: Field) -> tuple[Field, Callable[[Array], Array]]:
    """The field in the coordinates that it was learned in, and the way from there to chunks [..., H, A].

    Noise that is added on the way belongs into these: in others it is of the wrong size in every direction.
    """
    return getattr(field, "native", (field, lambda x: x))


class Sampler(Protocol):
    """An integrator from noise to chunk."""

    stochastic: bool
    steps: int  # network evaluations are `steps` times the order of the method

    def noise_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Event shape of the noise path beyond x0; (0,) for a deterministic sampler."""
        ...

    def integrate(
        self,
        field: Field,
        x0: Float[Array, "*batch H A"],
        noise: Float[Array, "*batch steps H A"] | None,
    ) -> Float[Array, "*batch H A"]:
        """Chunk [..., H, A] from x0 [..., H, A] and, where stochastic, noise [..., steps, H, A]."""
        ...


@runtime_checkable
class Policy(Protocol):
    """A generative policy. Works on normalised observations and chunks."""

    spec: PolicySpec

    def init(self, key: Key, sample_batch: Batch) -> Variables:
        """Fresh parameters and statistics; `sample_batch` may be used to initialise them from data."""
        ...

    def loss(self, variables: Variables, key: Key, batch: Batch, hp: dict[str, Float[Array, ""]]) -> Loss:
        """The training loss; `hp` holds the traced scalars that the plug-in registered."""
        ...

    def base_distribution(self, variables: Variables, obs: Obs) -> Distribution:
        """w ~ base(.|obs) with the observations' leading axes as batch shape; w may be a pytree."""
        ...

    def transport(self, variables: Variables, obs: Obs, w: PyTree) -> Float[Array, "*batch H A"]:
        """Chunk [..., H, A]: deterministic given w, differentiable in its float leaves."""
        ...


@runtime_checkable
class Env(Protocol):
    """An environment for one instance; wrappers vmap it. Actions are in [-1, 1].

    Its states have the same structure, shapes and types from `reset` on, and finite numbers. One that is not finite
    ends the episode as a failure; a first state with `done` is an episode of 0 steps, which is paid nothing; success
    counts at the end of an episode, or, with `spec.latched`, once it was reached (see `envs.wrappers`).
    """

    spec: EnvSpec

    def default_params(self) -> PyTree:
        """The traced environment parameters (noise, masses, goal weights, ...)."""
        ...

    def reset(self, key: Key, params: PyTree | None = None) -> State:
        """The first state of an episode."""
        ...

    def step(self, state: State, action: Float[Array, " A"]) -> State:
        """One control step."""
        ...


@runtime_checkable
class HasExpert(Protocol):
    """An environment that can demonstrate each of its modes."""

    def expert(self, state: State, mode: Int[Array, ""], key: Key) -> Float[Array, " A"]:
        """Closed-loop action [A] in [-1, 1] that pursues `mode` ([] int32)."""
        ...


def demonstrates(env: Any) -> bool:
    """Whether an environment has modes, and an expert for each."""
    modes: int = env.spec.num_modes
    return isinstance(env, HasExpert) and modes > 0


@runtime_checkable
class HasDemonstrated(Protocol):
    """An environment whose expert demonstrates another task than its reward asks for."""

    def demonstrated(self) -> PyTree:
        """The parameters, as of `default_params`, under which the expert's episodes are recorded and judged."""
        ...


@runtime_checkable
class HasPerturbed(Protocol):
    """An environment with further parameters, which cost nothing where nothing sets them."""

    def perturbed(self) -> Env:
        """The same task, with these among its `default_params`, at values that change nothing."""
        ...


class HasPosterior(Protocol):
    """Capability `posterior`: a policy with a latent z; its `base_distribution` is the prior of z."""

    def posterior(self, variables: Variables, obs: Obs, chunk: Float[Array, "*batch H A"]) -> Distribution:
        """Distribution over z for an observation and chunk [..., H, A]."""
        ...


class HasLogProb(Protocol):
    """Capability `log_prob`: a policy whose density of a chunk is known in closed form."""

    def log_prob(
        self, variables: Variables, obs: Obs, chunk: Float[Array, "*batch H A"]
    ) -> Float[Array, "*batch"]:
        """[...] log p(chunk | obs) in normalised units, summed over event dimensions."""
        ...


class HasField(Protocol):
    """Capability `field`: a policy that integrates a learned field from noise to a chunk."""

    def field(self, variables: Variables, obs: Obs) -> Field:
        """The field for observations, which are encoded once, here."""
        ...


class HasChain(Protocol):
    """Capability `chain`: a policy whose transport visits a chain of points from noise to a chunk."""

    def chain(self, variables: Variables, obs: Obs, w: PyTree) -> Float[Array, "points *batch H A"]:
        """[N + 1, ..., H, A] the points that the sampler visits, x0 first and the chunk last."""
        ...


class HasModelled(Protocol):
    """Capability `modelled`: a policy whose loss compares something else than the chunks that it is given."""

    def modelled(self, variables: Variables, chunk: Float[Array, "*batch H A"]) -> Float[Array, "*batch H A"]:
        """What the loss compares of chunks [..., H, A]."""
        ...


CAPABILITIES = ("log_prob", "posterior", "field", "chain", "modelled")


def capabilities(policy: Policy) -> frozenset[str]:
    """What a policy can do besides its contract: its own `capabilities`, or those methods that it has.

    A wrapper has every method and declares those that what it wraps can answer, so ask here.
    """
    declared = getattr(policy, "capabilities", None)
    return (
        frozenset(declared)
        if declared is not None
        else frozenset(name for name in CAPABILITIES if callable(getattr(policy, name, None)))
    )


@runtime_checkable
class HasMeanPaths(Protocol):
    """An environment whose modes are known as paths."""

    def mean_paths(self, params: PyTree) -> Float[Array, "M L P"]:
        """[M, L, P] mean expert positions of each mode at every step; rows from K on are not modes."""
        ...


class Diagnostic(Protocol[CaseT]):
    """An instrument: a pure function of one trained policy, its data and its samples.

    With a class attribute `of_data = True` it promises to ask the demonstrations alone: runs on the same
    demonstrations share one measurement. With `of_episodes = True` it asks the episodes alone, with normaliser and
    environment: it measures stages that clone nothing, too.
    """

    def measure(self, case: CaseT, key: Key) -> dict[str, float]:
        """{`group/name`: figure}; empty where the case lacks what is needed (see `diagnostics.case.Case`)."""
        ...
