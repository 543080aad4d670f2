"""D3IL's Pushing in its plane: a clone, fine-tuned with and without the MI reward.

Blocks start anywhere. So every command begins with noise that hardly varies with what is observed
(`init_frequency`): where it varies, commands say nothing of the order. And q sees little of the start, by which it
would know an episode again (`slots`, `noise`). Commands begin weak (`init_std`): a strong one holds the noise that
the clone averages over many decisions, which costs success.

Run:     python -m mmbc_jax.train --config configs/finetune/pushing_bmd.py --workdir runs/pushing_bmd
Expect:  of three seeds, success .95 after clones with .95 to .97; 4 of 4 orders kept, 2 commanded, and 0 to 2
         without the MI reward; see docs/results/robots.md.
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import load_module, plugin


def get_config() -> ConfigDict:
    config: ConfigDict = load_module("configs/bc/pushing.py").get_config()
    config.stages = ("bc", "discover", "finetune", "plain")
    config.actor = plugin("actor", "steer", fourier_octaves=0, init_frequency=0.15, init_std=0.8)
    config.discriminator = plugin("discriminator", "categorical", slots=8, noise=0.5)
    config.learner = plugin(
        "learner",
        "ppo",
        num_envs=256,
        decisions=32,
        learning_rate=4e-3,
        critic_learning_rate=2e-3,
        discriminator_learning_rate=3e-3,
        iterations_per_epoch=10,
    )
    config.discover.update({"iterations": 20, "start_horizon": 400})
    config.finetune.update({"iterations": 40, "mi_coef": 0.5, "num_modes": 8})
    config.evaluation.update({"episodes": 512})
    return config
