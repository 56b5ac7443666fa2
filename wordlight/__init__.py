"""The command line. It may import app, jobs, worker and model, and imports each only when a command needs it."""
