"""Readers of recorded data, one file per format; `mmbc_jax.data.load` picks one by the file's suffix."""
