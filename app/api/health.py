"""The routes of /healthz and /readyz."""

from fastapi import APIRouter

from app.problems import unavailable
from app.services import ServicesDep

router = APIRouter(tags=["health"])


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answer 200 while this process runs."""
    return {"status": "ok"}


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses={503: {"description": "Redis cannot be reached, or no worker is alive"}})
async def readyz(services: ServicesDep) -> dict[str, int | str]:
    """Answer 200 if a picture would be captioned now: Redis is reachable and a worker is alive."""
    workers = await services.producer.workers()
    if not workers:
        raise unavailable("no-worker", "No worker", "No worker is alive. Jobs wait until one starts.")
    return {"status": "ready", "workers": workers}
