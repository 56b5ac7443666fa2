"""What `app` and `worker` agree on: the job, its result, and the queue on Redis Streams. No FastAPI, no torch."""
