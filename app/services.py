"""What lives as long as the web process, and how routes get at it."""

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from app.access.middleware import Access
from app.access.rate_limits import RateLimits
from app.background import in_background
from app.images.decoder import PictureDecoder
from app.images.picture import PictureLimits
from app.notifications import Notices
from app.outbound.http_client import Outbound
from app.outbound.webhooks import Webhooks
from app.settings import AppSettings
from app.uploads.receiver import Uploads
from jobs.connection import connect_async
from jobs.deliveries import Deliveries
from jobs.producer import Producer


@dataclass(frozen=True, slots=True)
class Services:
    """One of each, shared by all requests."""

    settings: AppSettings
    producer: Producer
    notices: Notices
    decoder: PictureDecoder
    uploads: Uploads
    access: Access
    limits: RateLimits
    outbound: Outbound
    deliveries: Deliveries


@asynccontextmanager
async def running_services(settings: AppSettings) -> AsyncIterator[Services]:
    """Start everything that the routes need, and stop it in the end. Redis need not be there yet."""
    limits = PictureLimits(max_pixels=settings.max_pixels, working_side=settings.working_side)
    decoder = PictureDecoder(
        processes=settings.decoders,
        timeout_seconds=settings.decode_seconds,
        memory_bytes=settings.decode_bytes,
        limits=limits,
        # A single picture has one place, a batch as many as there are decoders: who was let in need not be sent away.
        max_waiting=settings.max_uploads + settings.max_batches * settings.decoders,
    )
    async with connect_async(settings.redis_url) as redis, decoder:
        producer = Producer(redis, settings)
        notices = Notices(producer)
        outbound = Outbound(settings.outbound_networks, https_only=settings.outbound_https_only)
        deliveries = Deliveries(redis, settings)
        background: list[Coroutine[Any, Any, None]] = [notices.listen()]
        if settings.webhook_secret:
            secret = settings.webhook_secret.get_secret_value()
            retries = settings.webhook_retry_seconds
            background.append(Webhooks(deliveries, producer, outbound, secret, retry_seconds=retries).run())
        async with in_background(*background):
            yield Services(
                settings=settings,
                producer=producer,
                notices=notices,
                decoder=decoder,
                uploads=Uploads(settings, settings.max_batches, settings.batch_seconds),
                access=Access(redis, settings),
                limits=RateLimits(redis, settings.default_limit),
                outbound=outbound,
                deliveries=deliveries,
            )


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Shared = Annotated[Services, Depends(_services)]
