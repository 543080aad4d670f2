"""Beyond the paper: one configuration of the mixture-base flow for every number of modes K.

Run:     python -m mmbc_jax.train --config configs/study/beyond.py --workdir runs/beyond
Another: --config.env.name=corridor --config.env.num_modes=16 --config.env.noise=.005
Expect:  2 minutes on two cores; success 1.0 and all K modes in three seeds.
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import plugin
from mmbc_jax.runs.sections import base_config


def get_config() -> ConfigDict:
    config = base_config()
    config.stages = ("bc",)
    config.seeds = 3
    config.env = plugin("env", "radial", num_modes=16, noise=0.006)
    config.policy = plugin("policy", "mixture_flow", hidden=(128, 128), fourier_octaves=2, temperature=0.6)
    config.sampler = plugin("sampler", "heun", steps=4)
    config.chunk.update({"predict": 60, "execute": 60, "coordinates": "path"})
    config.data.update({"episodes": 1000, "noise": 0.0, "windows": "first"})
    config.bc.update(
        {"steps": 1500, "steps_per_epoch": 500, "batch_size": 256, "learning_rate": 1e-3, "ema_decay": 0.99}
    )
    config.evaluation.update({"episodes": 1000, "samples": 8})
    return config
