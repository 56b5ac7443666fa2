"""The names of everything we keep in Redis. All share one hash tag, so that a script may touch them in a cluster."""

_TAG = "{wordlight}"

STREAM = f"{_TAG}:jobs"  # the work: one entry a job that is not over, {"job": id}
GROUP = "workers"  # the consumer group on STREAM
WORKERS = f"{_TAG}:workers"  # sorted set: worker -> when it was last heard of, in ms
DEAD = f"{_TAG}:dead"  # stream: jobs that were given up, with the reason
NOTICES = f"{_TAG}:notices"  # pub/sub channel: ids of jobs that something happened to


def record(job_id: str) -> str:
    """Hash: all that is known of a job."""
    return f"{_TAG}:job:{job_id}"


def image(job_id: str) -> str:
    """String: the job's working image, a JPEG that `app` encoded."""
    return f"{_TAG}:image:{job_id}"


def events(job_id: str) -> str:
    """Stream: what happened to the job, {"status": ...}, with ids that clients may resume from."""
    return f"{_TAG}:events:{job_id}"
