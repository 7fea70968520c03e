"""Integer inference of CNNs inside PyTorch."""
