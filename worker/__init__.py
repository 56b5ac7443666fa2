"""The worker process: claims jobs in batches, runs the model on one device, stores the results."""
