"""Speed, side by side with PyTorch in one run on the same cores: `python -m benchmarks.run`."""
