"""Plug-ins by file name: adding a policy, prior, sampler, environment or actor is adding a file.

`find("policy", "flow")` imports `mmbc_jax/policies/flow.py` and returns its `build`.
A name of the form `package.module:attribute` is imported from outside the package.
Where two kinds have a plug-in of one name, the file of one says its kind: `priors/latent_flow_prior.py` is the
prior `latent_flow`. A known name may carry an argument after a colon (`brax:reacher`); the plug-in reads it from
`cfg.name`.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import os
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ml_collections

from mmbc_jax.core.errors import ConfigError, nearest, one_of
from mmbc_jax.core.options import Options

ALL = "all"
FOLDERS: dict[str, tuple[str, ...]] = {
    "policy": ("mmbc_jax.policies",),
    "prior": ("mmbc_jax.priors",),
    "sampler": ("mmbc_jax.samplers",),
    "env": ("mmbc_jax.envs.synthetic", "mmbc_jax.envs.planar", "mmbc_jax.envs.mjx", "mmbc_jax.envs.adapters"),
    "actor": ("mmbc_jax.actors",),
    "discriminator": ("mmbc_jax.discriminators",),
    "reward": ("mmbc_jax.rewards",),
    "learner": ("mmbc_jax.learners",),
    "observation": ("mmbc_jax.nn.observations",),
    "loader": ("mmbc_jax.data.loaders",),
    "figure": ("mmbc_jax.report.figures",),
    "diagnostic": ("mmbc_jax.diagnostics.instruments",),
    "logger": ("mmbc_jax.runs.loggers",),
}
_LISTED = ("diagnostic", "figure", "logger")  # kinds of which a field of the configuration lists several
BASES = ("none", "fixed", "latent", "codes", "any")
NEUTRAL = {"prior": "normal", "sampler": "euler"}  # what a configuration names that has nothing to say on it


@dataclasses.dataclass(frozen=True)
class Plugin:
    """A registered builder.

    Attributes:
      kind: one of `FOLDERS`.
      builder: the decorated function. Called with its options first: an instance of `options`, or where that is
        None the section of the config itself.
      default_config: returns the section, without `name`.
      hparams: scalar fields of that section that are traced, so that a sweep over them never recompiles;
        the plug-in receives their values at run time in `hp`.
      options: the class that states the section, or None where `default_config` is a function of its own.
      needs_prior: of a policy, what it does with the configured prior: "fixed", the base of what it samples, which it
        does not train; "latent", the prior of its latent; "codes", that of its codes; "none", no use; "any", unsaid.
      needs_sampler: of a policy, whether it samples by the configured sampler; None, unsaid.
    """

    kind: str
    builder: Callable[..., Any]
    default_config: Callable[[], ml_collections.ConfigDict]
    hparams: tuple[str, ...] = ()
    options: type[Options] | None = None
    needs_prior: str = "any"
    needs_sampler: bool | None = None

    def uses(self, kind: str) -> bool:
        """Whether a policy has, or may have, a use for the configured "prior" or "sampler"."""
        return self.needs_prior != "none" if kind == "prior" else self.needs_sampler is not False

    def __call__(self, cfg: ml_collections.ConfigDict, *args: Any, section: str = "", **kwargs: Any) -> Any:
        """Checks the section and builds.

        Args:
          cfg: the plug-in's section.
          *args: what the kind is built from.
          section: path of `cfg` in the configuration, for errors; the kind itself where empty.
          **kwargs: as `args`.

        Raises:
          ConfigError: an option cannot work.
        """
        options: Any = cfg
        if self.options is not None:
            options = self.options.from_config(cfg, section or self.kind)
        return self.builder(options, *args, **kwargs)


def register(
    kind: str,
    options: type[Options] | Callable[[], ml_collections.ConfigDict],
    hparams: tuple[str, ...] = (),
    *,
    needs_prior: str = "any",
    needs_sampler: bool | None = None,
) -> Callable[[Callable[..., Any]], Plugin]:
    """Decorator that turns a builder into a plug-in.

    Args:
      kind: one of `FOLDERS`.
      options: an `Options` class, whose instance the builder gets; or a function that returns the section as a
        ConfigDict, which the builder then gets unchecked.
      hparams: traced scalars of the latter; an `Options` class says its own.
      needs_prior: of a policy; one of `BASES`, see `Plugin`.
      needs_sampler: of a policy; see `Plugin`.
    """
    if kind not in FOLDERS:
        raise KeyError(f"unknown plug-in kind {kind!r} {nearest(kind, FOLDERS)}")
    if needs_prior not in BASES:
        raise KeyError(f"unknown base {needs_prior!r} {nearest(needs_prior, BASES)}")
    needs = (needs_prior, needs_sampler)
    if isinstance(options, type) and issubclass(options, Options):
        stated = options
        return lambda builder: Plugin(kind, builder, stated.to_config, stated.traced(), stated, *needs)
    return lambda builder: Plugin(kind, builder, options, hparams, None, *needs)


def available(kind: str) -> dict[str, str]:
    """Names of the plug-ins of a kind inside the package, each with its module."""
    found = {}
    for folder in FOLDERS[kind]:
        for path in importlib.import_module(folder).__path__:
            for name in _modules(path, os.stat(path).st_mtime_ns):
                found[name.removesuffix(f"_{kind}")] = f"{folder}.{name}"
    return dict(sorted(found.items()))


@functools.cache
def _modules(path: str, changed: int) -> tuple[str, ...]:
    """Public modules of a folder that was last `changed` then: a config asks for them some thirty times."""
    found = pkgutil.iter_modules([path])
    return tuple(module.name for module in found if not module.name.startswith("_") and not module.ispkg)


def chosen_names(kind: str, chosen: Iterable[str], section: str) -> tuple[str, ...]:
    """The plug-ins behind a list of names, in which `all` stands for every one of the package.

    Args:
      kind: one of `FOLDERS`.
      chosen: names, `all`, or `package.module:attribute`.
      section: field of the config that holds the list, for messages.

    Raises:
      ConfigError: unknown name.
    """
    known = available(kind)
    found: list[str] = []
    for name in chosen:
        if name != ALL and name not in known and ":" not in name:
            raise ConfigError(section, name, one_of(name, (*known, ALL)))
        if name != ALL:
            find(kind, name, section)  # one of the user's is imported now, and not when it is needed
        found += known if name == ALL else [name]
    return tuple(dict.fromkeys(found))


def find(kind: str, name: str, section: str = "") -> Plugin:
    """The plug-in behind a name.

    Args:
      kind: one of `FOLDERS`.
      name: a file name in the kind's folder, such a name with `:argument`, or `package.module:attribute`.
      section: of the config that names it, for messages; the kind itself where empty.

    Returns:
      The plug-in; call it to build.

    Raises:
      ConfigError: the name is unknown, or what it points at is not a plug-in of that kind.
    """
    known = available(kind)
    field = section if kind in _LISTED else f"{section or kind}.name"
    head, _, tail = name.partition(":")
    if head not in known and not tail:
        raise ConfigError(field, name, one_of(name, known, ", or package.module:attribute"))
    module, attribute = (known[head], "build") if head in known else (head, tail)
    try:
        builder = getattr(importlib.import_module(module), attribute)
    except (
        Exception,
        SystemExit,
    ) as error:  # importing runs code, the user's or a library's that finds no device
        said = f"{type(error).__name__}: {error}"
        raise ConfigError(field, name, f"cannot be imported ({said})") from error
    if not isinstance(builder, Plugin) or builder.kind != kind:
        raise ConfigError(field, name, f"a builder marked with @register({kind!r}, ...)")
    return builder


def build(kind: str, cfg: ml_collections.ConfigDict, *args: Any, section: str = "", **kwargs: Any) -> Any:
    """Builds the plug-in named by `cfg.name` with `cfg` and whatever that kind is built from; see `Plugin`."""
    return find(kind, cfg.name, section)(cfg, *args, section=section, **kwargs)


def check_base(prior: str, sampler: str, policies: Mapping[str, str]) -> None:
    """Refuses a prior or a sampler that nothing in a run has a use for.

    `NEUTRAL` ones are always allowed: they are what a configuration names that has nothing to say. Whether a policy
    can use the one that it is given is checked by its builder.

    Args:
      prior: name of the configured prior.
      sampler: name of the configured sampler.
      policies: {section: name} of every policy that the run trains.

    Raises:
      ConfigError: a prior or sampler would be ignored, or a policy is unknown.
    """
    found = {section: find("policy", name, section) for section, name in policies.items()}
    for kind, name in (("prior", prior), ("sampler", sampler)):
        if name == NEUTRAL[kind] or any(plugin.uses(kind) for plugin in found.values()):
            continue
        idle = " and ".join(f"{section}.name = {policies[section]!r}" for section in policies)
        idle = idle or "a run without a clone"
        able = ", ".join(name for name in available("policy") if find("policy", name).uses(kind))
        raise ConfigError(
            f"{kind}.name", name, f"{NEUTRAL[kind]!r}: a {kind} has no use in {idle}, but in {able}"
        )
