"""The names of all keys in Redis. jobs/scripts/prelude.lua builds the same names from that of the stream."""

TAG = "{wordlight}:"

STREAM = f"{TAG}jobs"  # stream: the queue, one entry per job to run, {"job": id}
GROUP = "workers"  # the consumer group on STREAM
ACTIVE = f"{TAG}active"  # sorted set: job -> when it was accepted, of all jobs that are not over
WORKERS = f"{TAG}workers"  # sorted set: worker -> its last heartbeat, in ms
MODEL = f"{TAG}model"  # string: the version of the captioner that sent the last heartbeat
DEAD = f"{TAG}dead"  # stream: dead letters, {"job": id, "error": problem}
PICTURES = f"{TAG}pictures"  # sorted set: job -> when it ended, of jobs whose working image is still kept
EXPIRING = f"{TAG}expiring"  # sorted set: "job:owner" -> when it leaves the owner's list
COUNTS = f"{TAG}metrics"  # hash: the counters for /metrics
WEBHOOKS = f"{TAG}webhooks"  # sorted set: job -> when its next delivery attempt is due, in ms
API_KEYS = f"{TAG}keys"  # hash: id -> SHA-256 of the secret, of all API keys ever created
LIMITS = f"{TAG}limit"  # prefix of the rate limiter's keys
SECRET = f"{TAG}secret"  # string: the secret that authenticates ids and tickets
NOTIFICATIONS = f"{TAG}notices"  # pub/sub channel: ids of jobs that changed, followed by "+" while the job is not over


def record(job_id: str) -> str:
    """Hash: the record of a job."""
    return f"{TAG}job:{job_id}"


def image(job_id: str) -> str:
    """String: the job's working image, a JPEG encoded by `app`."""
    return f"{TAG}image:{job_id}"


def events(job_id: str) -> str:
    """Stream: the job's events, {"event": name, "data": JSON}, with ids from which clients can resume."""
    return f"{TAG}events:{job_id}"


def twins(job_id: str) -> str:
    """Set: jobs with the same picture and options, which wait for the result of this one."""
    return f"{TAG}twins:{job_id}"


def owned(owner: str) -> str:
    """Sorted set: the ids of an owner's jobs. Their order is that of time."""
    return f"{TAG}owner:{owner}"


def batch(batch_id: str) -> str:
    """Hash: a batch and the ids of its jobs."""
    return f"{TAG}batch:{batch_id}"


def idempotency(owner: str, digest: str) -> str:
    """Hash: the fingerprint of the request with that Idempotency-Key, and the id of its job or batch."""
    return f"{TAG}idempotency:{owner}:{digest}"


def deliveries(job_id: str) -> str:
    """Stream: the delivery attempts of the job's webhook."""
    return f"{TAG}deliveries:{job_id}"


def api_key(digest: str) -> str:
    """Hash: the API key whose secret has that SHA-256."""
    return f"{TAG}key:{digest}"
