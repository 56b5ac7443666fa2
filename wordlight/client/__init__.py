"""A Python client of the service: `from wordlight.client import Client, AsyncClient`.

Needs the extra `client`. Of Wordlight, it imports only the data types of jobs/: no queue, no web framework, no model.
"""

from jobs.job import Batch, Caption, ImageSize, Job, JobSummary, ModelInfo, Status, Word, WordEvent, WordMap
from jobs.options import AttentionMaps, CaptionOptions, ScoreOptions, Strategy
from jobs.problem import Problem
from wordlight.client.asynchronous import AsyncClient
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
from wordlight.client.synchronous import Client
from wordlight.client.wire import Image

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
    "ScoreOptions",
    "Status",
    "Strategy",
    "TookTooLong",
    "Unavailable",
    "Unreachable",
    "Word",
    "WordEvent",
    "WordMap",
]
