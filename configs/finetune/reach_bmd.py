"""Paper B's Reach: clone a Panda's two ways past a pillar, then fine-tune with and without the MI reward.

Start, goal and pillar vary, hence `init_frequency` and `slots`: see configs/finetune/pushing_bmd.py. An episode is
five decisions long, of which few choose the side; so the chunk itself is corrected, too (actor residual).

Run:     python -m mmbc_jax.train --config configs/finetune/reach_bmd.py --workdir runs/reach_bmd
Expect:  of three seeds, success .91 to .93 after clones with .92 to .93; 2 of 2 ways kept, 1 or 2 commanded;
         .96 to .97 and hardly a command without the MI reward (docs/results/robots.md).
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import load_module, plugin


def get_config() -> ConfigDict:
    config: ConfigDict = load_module("configs/bc/reach.py").get_config()
    config.stages = ("bc", "discover", "finetune", "plain")
    config.actor = plugin("actor", "residual", scale=0.3, init_frequency=0.1, init_std=0.95)
    config.discriminator = plugin("discriminator", "categorical", slots=4, noise=0.5)
    config.learner = plugin(
        "learner",
        "ppo",
        num_envs=256,
        decisions=8,
        learning_rate=1e-3,
        critic_learning_rate=2e-3,
        discriminator_learning_rate=3e-3,
        iterations_per_epoch=10,
    )
    config.discover.update({"iterations": 30, "start_horizon": 100})
    config.finetune.update({"iterations": 60, "mi_coef": 0.5, "num_modes": 4})
    config.evaluation.update({"episodes": 512})
    return config
