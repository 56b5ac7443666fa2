"""Send webhooks from the test's process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

from app.outbound.http_client import OutboundClient
from app.outbound.webhooks import Webhooks
from app.services import in_background
from jobs.connection import connect_async
from jobs.deliveries import Deliveries
from jobs.producer import Producer
from jobs.settings import QueueSettings

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NO_WAIT = (0.0,) * 6


@asynccontextmanager
async def sending(settings: QueueSettings, **options: Any) -> AsyncIterator[Deliveries]:
    """Run the sender of webhooks in the background."""
    async with connect_async(settings.redis_url) as redis:
        deliveries = Deliveries(redis, settings)
        outbound = OutboundClient([ip_network("127.0.0.0/8")], total_seconds=20)
        options = {"retry_seconds": NO_WAIT, "poll_seconds": 0.02} | options
        webhooks = Webhooks(deliveries, Producer(redis, settings), outbound, SECRET, **options)
        async with in_background(webhooks.run()):
            yield deliveries
