"""A client of the service, for other programs: `from wordlight.client import Client, AsyncClient`.

In: pictures; out: jobs with their captions, typed. It needs the extra `client` and nothing else of Wordlight but what
the answers look like (jobs/): no queue, no web framework, no model.
"""

from jobs.job import Batch, Caption, ImageSize, Job, JobSummary, ModelInfo, Said, Status, Word, WordMap
from jobs.options import AttentionMaps, CaptionOptions, ScoreOptions, Strategy
from jobs.problem import Problem
from wordlight.client.client import Client
from wordlight.client.client_async import AsyncClient
from wordlight.client.errors import (
    ClientError,
    JobFailed,
    NotAllowed,
    NotUnderstood,
    ProblemAnswer,
    RateLimited,
    TookTooLong,
    Unavailable,
    Unreachable,
)
from wordlight.client.events import Event
from wordlight.client.requests import Image

__all__ = [
    "AsyncClient",
    "AttentionMaps",
    "Batch",
    "Caption",
    "CaptionOptions",
    "Client",
    "ClientError",
    "Event",
    "Image",
    "ImageSize",
    "Job",
    "JobFailed",
    "JobSummary",
    "ModelInfo",
    "NotAllowed",
    "NotUnderstood",
    "Problem",
    "ProblemAnswer",
    "RateLimited",
    "Said",
    "ScoreOptions",
    "Status",
    "Strategy",
    "TookTooLong",
    "Unavailable",
    "Unreachable",
    "Word",
    "WordMap",
]
