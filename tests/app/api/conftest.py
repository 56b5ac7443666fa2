"""Clients of a whole service, and of one without a worker."""

from collections.abc import Iterator

import httpx
import pytest
from support.command import Service
from support.running import Running, running

from jobs.connection import connect


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=60) as http:
        yield http


@pytest.fixture(scope="module")
def idle() -> Iterator[Running]:
    """A service without a worker, so jobs stay in the queue."""
    with running() as service:
        yield service


@pytest.fixture
def waiting(idle: Running) -> Iterator[httpx.Client]:
    with connect(idle.redis_url) as redis:
        redis.flushall()
    with httpx.Client(base_url=idle.url, timeout=60) as http:
        yield http
