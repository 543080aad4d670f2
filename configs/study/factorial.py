"""What keeps the ways of Avoiding: the number of commands, how they start, discovery, or the MI reward.

Run:     python -m mmbc_jax.study --config configs/study/factorial.py --config.scale=small --workdir runs/factorial
Expect:  small: 6 seeds of the half that matters, an hour on two cores. full: |Z| of 1, 8, 16, 32 x start x
         discovery x four lambdas, 10 seeds: 13 processes of up to 20 runs each, for a GPU (--config.sweep.mode=vmap).

All cells take as many environment steps. `start` says whether every z begins with a field of noise of its own
(split) or all with the base (alike); without discovery its iterations go to fine-tuning. Seeds are paired: a seed has
the same demonstrations and the same clone in every cell. Each process trains half of the seeds, on demonstrations of
its own.
"""

MAIN = "configs/finetune/avoiding_bmd.py"
COLUMNS = (
    ("success_rate", "SR", 3),
    ("modes_kept", "kept", 1),
    ("commandable", "commandable", 1),
    ("mi_z_mode", "I(z; mode)", 2),
    ("mode_entropy", "entropy", 2),
    ("shifts/gust/commandable", "comm. in gusts", 1),
    ("shifts/calm/commandable", "comm. in calm", 1),
)
PROCESSES = 2  # sets of demonstrations
