"""The most ways kept on Avoiding: a flow trained through its noise, from a clone with all ways, codes merged late.

What a clone lacks no fine-tuning brings back, so the clone learns for longer, from demonstrations with less noise.
256 codes take the ways apart; when each of them goes one way, in the last quarter of fine-tuning, those that share
one merge, so that every way has its share of the policy.

Run:     python -m mmbc_jax.train --config configs/finetune/avoiding_flow.py --workdir runs/avoiding_flow
Expect:  a quarter of an hour on one core, half an hour on a slow one. On five fresh seeds, under noise: success .985
         to .995, 23 or 24 of 24 ways kept, 21 to 24 commanded (docs/results/avoiding.md).
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import load_module, plugin


def get_config() -> ConfigDict:
    config: ConfigDict = load_module("configs/finetune/avoiding_bmd.py").get_config()
    config.stages = ("bc", "discover", "finetune")
    config.data.noise = 0.15
    config.bc.steps = 20000
    config.actor = plugin("actor", "flow_sde")
    config.learner.update({"merge": True, "merge_in": "finetune"})
    config.discover.iterations = 40
    config.finetune.update({"iterations": 320, "num_modes": 256})
    return config
