"""The services that live as long as the web process, and the dependency that gives them to routes."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Depends, Request

from app.access.middleware import Access
from app.access.rate_limits import RateLimits
from app.images.decoder import PictureDecoder
from app.notifications import Notifications
from app.outbound.http_client import OutboundClient
from app.outbound.webhooks import Webhooks
from app.settings import AppSettings
from app.uploads.receiver import UploadReceiver
from jobs.connection import connect_async
from jobs.deliveries import Deliveries
from jobs.producer import Producer

_CANCEL_AGAIN_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Services:
    """One instance of each service, shared by all requests."""

    settings: AppSettings
    producer: Producer
    notifications: Notifications
    decoder: PictureDecoder
    uploads: UploadReceiver
    access: Access
    rate_limits: RateLimits
    outbound: OutboundClient
    deliveries: Deliveries


@asynccontextmanager
async def running_services(settings: AppSettings) -> AsyncIterator[Services]:
    """Start the services and stop them at the end. Redis may still be unreachable at the start."""
    decoder = PictureDecoder(
        processes=settings.decoders,
        limits=settings.image_limits,
        # Room for every upload that the receiver accepts: one image for each, and one per process for each batch.
        max_waiting=settings.max_uploads + settings.max_batches * settings.decoders,
    )
    async with connect_async(settings.redis_url) as redis, decoder:
        producer = Producer(redis, settings)
        notifications = Notifications(producer)
        outbound = OutboundClient(settings.outbound_networks, https_only=settings.outbound_https_only)
        deliveries = Deliveries(redis, settings)
        background: list[Coroutine[Any, Any, None]] = [notifications.listen()]
        if settings.webhook_secret:
            secret = settings.webhook_secret.get_secret_value()
            retries = settings.webhook_retry_seconds
            background.append(Webhooks(deliveries, producer, outbound, secret, retry_seconds=retries).run())
        async with in_background(*background):
            yield Services(
                settings=settings,
                producer=producer,
                notifications=notifications,
                decoder=decoder,
                uploads=UploadReceiver(settings),
                access=Access(redis, settings),
                rate_limits=RateLimits(redis, settings.default_limit),
                outbound=outbound,
                deliveries=deliveries,
            )


@asynccontextmanager
async def in_background(*coroutines: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run the coroutines during the block, then cancel them and wait for their end. Raises what one of them raises."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        yield
    finally:
        for task in tasks:
            await _cancel(task)


async def _cancel(task: asyncio.Task[None]) -> None:
    # One call can be lost: in Python 3.11, asyncio.wait_for, which redis-py uses, swallows a cancellation that arrives
    # just as it ends.
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_CANCEL_AGAIN_SECONDS)
    if not task.cancelled():
        task.result()


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(_services)]
