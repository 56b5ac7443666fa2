"""The process that owns a device: claims jobs in batches, runs the model, publishes results. No FastAPI."""
