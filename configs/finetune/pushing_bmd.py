"""D3IL's Pushing in its plane: a clone, fine-tuned with and without the MI reward.

Run:     python -m mmbc_jax.train --config configs/finetune/pushing_bmd.py --workdir runs/pushing_bmd
Expect:  from the clone of configs/bc/pushing.py; see docs/results/robots.md.
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import load_module, plugin


def get_config() -> ConfigDict:
    config: ConfigDict = load_module("configs/bc/pushing.py").get_config()
    config.stages = ("bc", "discover", "finetune", "plain")
    config.actor = plugin("actor", "steer", fourier_octaves=0)
    config.learner = plugin("learner", "ppo", num_envs=256, decisions=16, iterations_per_epoch=10)
    config.discover.update({"iterations": 40, "start_horizon": 128})
    config.finetune.update({"iterations": 80, "mi_coef": 0.5, "num_modes": 8})
    config.evaluation.update({"episodes": 512})
    return config
