"""LeRobot (github.com/huggingface/lerobot): training and sampling of its Diffusion Policy and its ACT, small.

Both take vectors only; torchvision, which their image encoders use, gets an empty stand-in where it cannot be
imported. Sizes: 1-D U-Net of 64, 128, 256 channels on two observations of 20 numbers; ACT of width 128 with 4 heads,
4 + 1 blocks and a latent of 32; chunks of 16 x 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.comparison import OURS, Comparison, bring_in

NEEDS = (
    "LeRobot: git clone https://github.com/huggingface/lerobot (on Python 3.11 its tag v0.4.4), pip install torch "
    "einops diffusers draccus datasets accelerate gymnasium deepdiff imageio av pyserial, "
    "--peer lerobot=ITS_FOLDER"
)
MODULES = (
    "configs.types",
    "policies.diffusion.configuration_diffusion",
    "policies.diffusion.modeling_diffusion",
    "policies.act.configuration_act",
    "policies.act.modeling_act",
)
STATE, REST, CHUNK, ACTION = 2, 18, 16, 2  # 20 observed numbers: a position and whatever else there is
TRAIN_BATCHES, SAMPLE_BATCHES, DENOISING = (64, 256), (1, 64), 10
UNET, CVAE = "U-Net diffusion", "transformer CVAE (ACT)"


class Theirs:
    """Its two policies and random batches for them, from its modules."""

    def __init__(self, modules: list[Any]):
        self.types, self.unet_config, self.unet, self.act_config, self.act = modules

    def features(self) -> dict[str, Any]:
        """What goes in and out."""
        kind, feature = self.types.FeatureType, self.types.PolicyFeature
        inputs = {
            "observation.state": feature(kind.STATE, (STATE,)),
            "observation.environment_state": feature(kind.ENV, (REST,)),
        }
        outputs = {"action": feature(kind.ACTION, (ACTION,))}
        return {"input_features": inputs, "output_features": outputs, "device": "cpu"}

    def policy(self, family: str) -> Any:
        """A fresh policy."""
        if family == UNET:
            options = {"horizon": CHUNK, "n_action_steps": 8, "down_dims": (64, 128, 256), "n_obs_steps": 2}
            sampler = {"noise_scheduler_type": "DDIM", "num_inference_steps": DENOISING}
            config = self.unet_config.DiffusionConfig(**options, **sampler, **self.features())
            return self.unet.DiffusionPolicy(config)
        sizes = {"dim_model": 128, "dim_feedforward": 512, "n_heads": 4, "latent_dim": 32}
        config = self.act_config.ACTConfig(chunk_size=CHUNK, n_action_steps=CHUNK, **sizes, **self.features())
        return self.act.ACTPolicy(config)

    def batch(self, family: str, size: int) -> dict[str, Any]:
        """Random observations and chunks."""
        import torch

        history = (2,) if family == UNET else ()
        return {
            "observation.state": torch.rand(size, *history, STATE),
            "observation.environment_state": torch.rand(size, *history, REST),
            "action": torch.rand(size, CHUNK, ACTION),
            "action_is_pad": torch.zeros(size, CHUNK, dtype=torch.bool),
        }

    def training(self, family: str, size: int, steps: int) -> Callable[[], Any]:
        """Loss, gradient, clipping and its preset optimiser's step, on a batch that stays in memory."""
        import torch

        policy, batch = self.policy(family).train(), self.batch(family, size)
        optimiser = policy.config.get_optimizer_preset().build(list(policy.parameters()))

        def block() -> None:
            for _ in range(steps):
                optimiser.zero_grad()
                policy.forward(batch)[0].backward()
                torch.nn.utils.clip_grad_norm_(policy.parameters(), 10.0)
                optimiser.step()

        return block

    def sampling(self, family: str, size: int) -> Callable[[], Any]:
        """A chunk of each observation."""
        import torch

        policy, batch = self.policy(family).eval(), self.batch(family, size)
        seen = {name: value for name, value in batch.items() if name.startswith("observation")}

        def block() -> Any:
            with torch.no_grad():
                if family == UNET:  # the public way keeps a queue of single observations
                    return policy.diffusion.generate_actions(dict(seen)).numpy()
                return policy.predict_action_chunk(dict(seen)).numpy()

        return block


def ours(family: str, size: int, steps: int) -> tuple[Callable[[], Any], Callable[[], Any], int]:
    """(makes a block of training steps, makes a block of one sample, parameters) of our policy of about that size."""
    from benchmarks.mirrors.contenders import our_sampler, our_steps
    from benchmarks.mirrors.subjects import SUBJECTS, Subject, build
    from mmbc_jax.core.types import PolicySpec

    if family == UNET:
        sizes = {"backbone": "unet", "channels": (64, 128, 256), "width": 128}
        spec = PolicySpec(2 * (STATE + REST), ACTION, CHUNK)
        subject = Subject(family, "diffusion", spec, sizes, (("ddim", DENOISING),))
    else:
        subject = next(subject for subject in SUBJECTS if subject.label == "cvae / transformer")
    built = build(subject, size)
    obs = np.array(built.batch.obs)

    def sampling() -> Callable[[], Any]:
        sample = our_sampler(built)
        return lambda: sample(obs)

    count = sum(leaf.size for leaf in jax.tree.leaves(built.variables.params))
    return lambda: our_steps(built, steps), sampling, count


def comparisons(checkout: Path | None, cores: int, quick: bool) -> Iterator[Comparison]:
    """Training steps and samples of both families."""
    modules = [f"lerobot.{name}" for name in MODULES]
    theirs = Theirs(bring_in(NEEDS, checkout, "src", modules, "torchvision"))
    import torch

    torch.set_num_threads(cores)
    differs = {
        UNET: "LeRobot regresses the noise of 100 levels, ours v of 20; its residual blocks have FiLM scales, "
        "group normalisation and convolutions of 5, ours are our U-Net's of the same channels. ",
        CVAE: "ACT has 4 + 4 + 1 blocks with dropout and a hidden layer of four widths, ours 5 + 5 without dropout "
        "and of two. ",
    }
    for family in (UNET, CVAE):
        size = sum(param.numel() for param in theirs.policy(family).parameters())
        work = [("train", b, 2) for b in TRAIN_BATCHES] + [("sample", b, 1) for b in SAMPLE_BATCHES]
        for kind, batch, steps in work[:1] if quick else work:
            training, sampling, count = ours(family, batch, steps)
            mine, other = (
                (training, lambda f=family, b=batch, n=steps: theirs.training(f, b, n))
                if kind == "train"
                else (sampling, lambda f=family, b=batch: theirs.sampling(f, b))
            )
            yield Comparison(
                f"{family}, {kind}, batch {batch}",
                "step" if kind == "train" else "call",
                {OURS: mine, "lerobot": other},
                differs[family] + ("Ours clips no gradient here." if kind == "train" else ""),
                units=steps,
                counted=("samples", batch),
                parameters={OURS: count, "lerobot": size},
            )
