"""The command line: the one place that may know app, jobs, worker and model, and imports each only when asked for."""
