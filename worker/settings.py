"""The worker's settings. Read once from the environment, passed in from there on."""

from pathlib import Path

from pydantic import Field

from jobs.settings import QueueSettings
from model.captioner import SHIPPED
from model.options import MOST_BEAMS


class WorkerSettings(QueueSettings):
    """Environment variables are the field names in capitals after WORDLIGHT_, but for REDIS_URL."""

    model: Path = Field(SHIPPED, description="folder of the captioner")
    device: str = Field("auto", description='"cpu", "cuda", "cuda:1", ...; "auto" takes a GPU where there is one')
    threads: int = Field(0, ge=0, description="threads that a CPU computes with; 0 lets PyTorch choose")
    batch_size: int = Field(16, ge=1, description="most pictures to caption at once")
    beam_size: int = Field(3, ge=1, le=MOST_BEAMS)
    num_captions: int = Field(3, ge=1, le=MOST_BEAMS, description="alternatives to return; never more than beams")
    max_words: int = Field(20, ge=1, le=100)
    stuck_seconds: float = Field(300, gt=0, description="a batch that takes longer ends its worker")
