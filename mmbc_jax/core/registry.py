"""Plug-ins by file name: adding a policy, prior, sampler, environment, actor or discriminator is adding a file.

`find("policy", "flow")` imports `mmbc_jax/policies/flow.py` and returns its `build`.
A name of the form `package.module:attribute` is imported from outside the package.
A known name may carry an argument after a colon (`brax:reacher`); the plug-in reads it from `cfg.name`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

import ml_collections

from mmbc_jax.core.errors import ConfigError, nearest

FOLDERS: dict[str, tuple[str, ...]] = {
    "policy": ("mmbc_jax.policies",),
    "prior": ("mmbc_jax.priors",),
    "sampler": ("mmbc_jax.samplers",),
    "env": ("mmbc_jax.envs.synthetic", "mmbc_jax.envs.mjx", "mmbc_jax.envs.adapters"),
    "actor": ("mmbc_jax.finetune.actors",),
    "discriminator": ("mmbc_jax.finetune.discriminators",),
}

Builder = Callable[..., Any]


def register(
    kind: str,
    default_config: Callable[[], ml_collections.ConfigDict],
    hparams: tuple[str, ...] = (),
) -> Callable[[Builder], Builder]:
    """Marks a builder as a plug-in.

    Args:
      kind: one of `FOLDERS`.
      default_config: returns the plug-in's own ConfigDict, without `name`.
      hparams: names of scalar fields of that config that are traced (sweepable without recompiling);
        the plug-in receives their values at run time in `hp`.

    Returns:
      A decorator that leaves the function as it is.
    """
    if kind not in FOLDERS:
        raise KeyError(f"unknown plug-in kind {kind!r} {nearest(kind, FOLDERS)}")

    def mark(build: Builder) -> Builder:
        build.kind = kind  # type: ignore[attr-defined]
        build.default_config = default_config  # type: ignore[attr-defined]
        build.hparams = hparams  # type: ignore[attr-defined]
        return build

    return mark


def available(kind: str) -> dict[str, str]:
    """Names of the plug-ins of a kind inside the package, each with its module."""
    found = {}
    for folder in FOLDERS[kind]:
        package = importlib.import_module(folder)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith("_") and not module.ispkg:
                found[module.name] = f"{folder}.{module.name}"
    return dict(sorted(found.items()))


def find(kind: str, name: str) -> Builder:
    """The registered builder behind a name.

    Args:
      kind: one of `FOLDERS`.
      name: a file name in the kind's folder, such a name with `:argument`, or `package.module:attribute`.

    Returns:
      The builder, with `default_config` and `hparams` as attributes.

    Raises:
      ConfigError: the name is unknown, or what it points at is not a plug-in of that kind.
    """
    known = available(kind)
    head, _, tail = name.partition(":")
    if head in known:
        builder = importlib.import_module(known[head]).build
    elif tail:
        try:
            builder = getattr(importlib.import_module(head), tail)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(f"{kind}.name", name, f"cannot be imported ({error})") from error
    else:
        raise ConfigError(f"{kind}.name", name, f"{nearest(name, known)}, or package.module:attribute")
    if getattr(builder, "kind", None) != kind:
        raise ConfigError(f"{kind}.name", name, f"a builder marked with @register({kind!r}, ...)")
    return builder


def build(kind: str, cfg: ml_collections.ConfigDict, *args: Any, **kwargs: Any) -> Any:
    """Builds the plug-in named by `cfg.name` with `cfg` and whatever that kind is built from."""
    return find(kind, cfg.name)(cfg, *args, **kwargs)
