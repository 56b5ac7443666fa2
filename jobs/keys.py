"""The names of everything we keep in Redis. All share one hash tag, so that a script may touch them in a cluster.

jobs/scripts/prelude.lua builds the same names from the first.
"""

TAG = "{wordlight}:"

STREAM = f"{TAG}jobs"  # the work: one entry a job that is to be run, {"job": id}
GROUP = "workers"  # the consumer group on STREAM
ACTIVE = f"{TAG}active"  # sorted set: job -> when it came, of all jobs that are not over
WORKERS = f"{TAG}workers"  # sorted set: worker -> when it was last heard of, in ms
MODEL = f"{TAG}model"  # string: the version of the captioner that worked last
DEAD = f"{TAG}dead"  # stream: jobs that were given up, with the reason
PICTURES = f"{TAG}pictures"  # sorted set: job -> when it ended, of those whose working image is still kept
EXPIRING = f"{TAG}expiring"  # sorted set: "job:owner" -> when it is to leave the owner's list
COUNTS = f"{TAG}metrics"  # hash: what is counted for /metrics
WEBHOOKS = f"{TAG}webhooks"  # sorted set: job -> when the next try to tell of it is due, in ms
API_KEYS = f"{TAG}keys"  # hash: id -> SHA-256 of the secret, of all API keys that ever were
LIMITS = f"{TAG}limit"  # what the keys of app/access/rate_limits.py begin with
SECRET = f"{TAG}secret"  # string: what ids and tickets are sealed with
NOTICES = f"{TAG}notices"  # pub/sub channel: ids of jobs that something happened to, with a "+" where they go on


def record(job_id: str) -> str:
    """Hash: all that is known of a job."""
    return f"{TAG}job:{job_id}"


def image(job_id: str) -> str:
    """String: the job's working image, a JPEG that `app` encoded."""
    return f"{TAG}image:{job_id}"


def events(job_id: str) -> str:
    """Stream: what happened to the job, {"event": name, "data": JSON}, with ids that clients may resume from."""
    return f"{TAG}events:{job_id}"


def twins(job_id: str) -> str:
    """Set: jobs that wait for the result of this one, because they ask for the same."""
    return f"{TAG}twins:{job_id}"


def owned(owner: str) -> str:
    """Sorted set, in the order of ids, which is that of time: the jobs of an owner."""
    return f"{TAG}owner:{owner}"


def batch(batch_id: str) -> str:
    """Hash: a batch and its jobs."""
    return f"{TAG}batch:{batch_id}"


def idempotency(owner: str, digest: str) -> str:
    """Hash: what became of a request with that Idempotency-Key."""
    return f"{TAG}idempotency:{owner}:{digest}"


def deliveries(job_id: str) -> str:
    """Stream: the tries to tell the job's webhook of its end."""
    return f"{TAG}deliveries:{job_id}"


def api_key(digest: str) -> str:
    """Hash: all that is known of the API key whose secret has that SHA-256."""
    return f"{TAG}key:{digest}"
