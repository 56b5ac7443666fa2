"""The route of a job's place in the queue, for those who wait and want to know how long.

In: requests; out: how many jobs that came before are not over. It must not know how the queue keeps them.
"""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.api.captions import MISSING, ExistingJob
from app.api.schemas import CAPTIONS, problems
from app.services import Shared

router = APIRouter(prefix=CAPTIONS, tags=["captions"], responses=problems(_503="the queue cannot be reached"))


class Place(BaseModel):
    """Where a job stands."""

    ahead: int | None = Field(description="jobs, anybody's, that came before and are not over; null: this one is over")


@router.get("/{job_id}/place", responses=MISSING)
async def place(services: Shared, job: ExistingJob) -> Place:
    """How many jobs that came before are not over, those in work included."""
    return Place(ahead=await services.producer.ahead(job.id))
