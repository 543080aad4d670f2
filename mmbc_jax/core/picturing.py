"""How an environment can be looked at, besides its contract; whoever has use for it asks here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from jaxtyping import Float, Shaped

from mmbc_jax.core.types import Array, EnvSpec, State

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@runtime_checkable
class HasDraw(Protocol):
    """An environment that can draw its scene."""

    def draw(self, ax: Axes) -> None:
        """Draws the static scene on matplotlib axes, in the units of the plotted observation."""
        ...


@runtime_checkable
class HasFrame(Protocol):
    """An environment that draws a picture of its state on the device."""

    def frame(self, state: State) -> Shaped[Array, "height width 3"]:
        """[height, width, 3] uint8 of one instance."""
        ...


@runtime_checkable
class HasScene(Protocol):
    """An environment whose state is that of a MuJoCo model, which draws it on the host."""

    @property
    def scene(self) -> Any:
        """The `mujoco.MjModel`."""
        ...

    def posed(self, state: State) -> tuple[Float[Array, " nq"], Float[Array, "mocap 3"]]:
        """(positions [nq], places of the mocap bodies [m]) of one instance."""
        ...


@runtime_checkable
class HasPlotted(Protocol):
    """An environment that knows what to plot of a state, whether or not that is observed."""

    def plotted(self, state: State) -> Float[Array, " 2"]:
        """[2] position of one instance."""
        ...


def plots(env: Any, spec: EnvSpec) -> bool:
    """Whether an environment has a plane to plot in: a position of its own, or one among its observed numbers."""
    return isinstance(env, HasPlotted) or len(spec.position) == 2
