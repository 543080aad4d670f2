"""PyTorch's side of the comparisons: our networks, losses, samplers and cloning step written for PyTorch."""
