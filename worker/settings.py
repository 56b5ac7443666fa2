"""The worker's settings. Read once from the environment, passed in from there on."""

from pathlib import Path

from pydantic import Field

from jobs.settings import QueueSettings
from model.captioner import SHIPPED
from model.engines.choice import EngineName
from model.engines.engine import Precision


class WorkerSettings(QueueSettings):
    """Environment variables are the field names in capitals after WORDLIGHT_, but for REDIS_URL."""

    model: Path = Field(SHIPPED, description="folder of the captioner")
    device: str = Field("auto", description='"cpu", "cuda", "cuda:1", ...; "auto" takes a GPU where there is one')
    engine: EngineName = Field("auto", description='"pytorch" or "openvino"; "auto" takes OpenVINO on a CPU')
    precision: Precision = Field("fp32", description='"bf16" is faster where the processor or GPU knows it')
    cuda_graphs: bool = Field(
        False, description="on an NVIDIA GPU, record the decoder's steps once and replay them; not yet proven on GPUs"
    )
    threads: int = Field(0, ge=0, description="threads that a CPU computes with; 0 lets PyTorch choose")
    batch_size: int = Field(16, ge=1, description="most pictures to caption at once")
    stuck_seconds: float = Field(300, gt=0, description="a batch that takes longer ends its worker")
