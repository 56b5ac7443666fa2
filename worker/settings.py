"""The worker's settings. They are read once from the environment and passed in."""

from pathlib import Path

from pydantic import Field

from jobs.settings import QueueSettings
from model.runtime.captioner import SHIPPED
from model.runtime.engines.pytorch import Precision
from model.runtime.inference import EngineName


class WorkerSettings(QueueSettings):
    """Each field is read from WORDLIGHT_ and its name in capitals, except REDIS_URL."""

    model: Path = Field(SHIPPED, description="folder of the captioner")
    device: str = Field("auto", description='"cpu", "cuda", "cuda:1", ...; "auto" uses a GPU if there is one')
    engine: EngineName = Field("auto", description='"pytorch" or "openvino"; "auto" uses OpenVINO on a CPU')
    precision: Precision = Field("fp32", description='"bf16" is faster on a processor or GPU that supports it')
    cuda_graphs: bool = Field(
        False, description="on an NVIDIA GPU, record the decoder's steps once and replay them; not yet proven on GPUs"
    )
    threads: int = Field(0, ge=0, description="CPU threads for the model; 0 lets PyTorch choose")
    batch_size: int = Field(16, ge=1, description="largest number of pictures in a batch")
    stuck_seconds: float = Field(300, gt=0, description="a batch that runs longer ends its worker")
