"""Images in, captions with attention out. PyTorch only: knows no HTTP and no Redis."""
