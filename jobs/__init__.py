"""The contract between `app` and `worker`: the job, its result, and the queue on Redis Streams."""
