"""The captioner: images in, captions with attention out. Uses PyTorch; knows nothing of HTTP or Redis."""
