"""Whether the process lives, and whether the service can do its work."""

from fastapi import APIRouter

from app.problems import unavailable
from app.services import Shared

router = APIRouter(tags=["health"])


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """200 as long as this process answers at all."""
    return {"status": "ok"}


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses={503: {"description": "Redis cannot be reached, or no worker is alive"}})
async def readyz(services: Shared) -> dict[str, int | str]:
    """200 when a picture sent now would be captioned soon."""
    workers = await services.producer.workers()
    if not workers:
        raise unavailable("no-worker", "No worker", "no worker has been heard of lately; jobs wait until one comes")
    return {"status": "ready", "workers": workers}
