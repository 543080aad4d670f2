"""D3IL's Aligning in its plane: a clone, fine-tuned with and without the MI reward.

Run:     python -m mmbc_jax.train --config configs/finetune/aligning_bmd.py --workdir runs/aligning_bmd
Expect:  from a clone with success .68, .9 of it from within; what fine-tuning makes of it is not measured.
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import plugin
from mmbc_jax.runs.sections import base_config


def get_config() -> ConfigDict:
    config = base_config()
    config.stages = ("bc", "discover", "finetune", "plain")
    config.env = plugin("env", "aligning")
    config.policy = plugin("policy", "flow", hidden=(256, 256, 256), fourier_octaves=3)
    config.sampler = plugin("sampler", "euler", steps=5)
    config.learner = plugin("learner", "ppo", num_envs=128, decisions=8)
    config.chunk.update({"predict": 4, "execute": 2})
    config.data.update({"episodes": 1000, "noise": 0.3})
    config.bc.update({"steps": 15000, "batch_size": 256, "learning_rate": 1e-3, "ema_decay": 0.998})
    config.discover.update({"iterations": 20, "start_horizon": 64})
    config.finetune.update({"iterations": 60, "mi_coef": 0.5, "num_modes": 8})
    config.evaluation.update({"episodes": 256})
    return config
