"""The job on Ray: hands lists of pictures to actors that own a device each.

Ray Data restarts an actor that dies and gives its list to another. A list that runs twice writes the same part twice.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.exceptions import RayError

from wordlight.bulk.actor import BulkCaptioner, BulkOptions, PartOutcome
from wordlight.bulk.storage import StoredFile


class CannotRun(Exception):
    """The job cannot start or continue. The message is one line."""


class Job:
    """One run."""

    def __init__(self, options: BulkOptions, workers: int | None, address: str | None) -> None:
        """Connect to the cluster at `address` or, if it is None, start one on this machine for the job."""
        self._options, self._workers, self._address = options, workers, address

    def run(self, pictures: Sequence[StoredFile], part: int) -> Iterator[PartOutcome]:
        """Caption all pictures in parts of `part`; yield the outcome of each part. Raises CannotRun."""
        if not pictures:
            return
        try:
            self._connect()
            yield from self._outcomes(pictures, part)
        except (RayError, ConnectionError) as error:
            # The last line of Ray's traceback is the error.
            raise CannotRun(str(error).strip().splitlines()[-1]) from error
        finally:
            ray.shutdown()

    def _connect(self) -> None:
        arguments: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        if self._address is None:
            # One core per worker, even if the machine has fewer. The cluster listens on the loopback address only.
            cores = max(os.cpu_count() or 1, self._workers or 1)
            arguments |= {"address": "local", "num_cpus": cores, "include_dashboard": False}
            arguments |= {"_node_ip_address": "127.0.0.1"}
        else:
            arguments |= {"address": self._address}
        ray.init(**arguments)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.enable_operator_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)

    def _outcomes(self, pictures: Sequence[StoredFile], part: int) -> Iterator[PartOutcome]:
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        gpus = 0 if self._options.device == "cpu" else int(resources.get("GPU", 0))
        lists = [pictures[first : first + part] for first in range(0, len(pictures), part)]
        workers = min(self._workers or gpus or 1, len(lists))
        cores = max(1, int(resources.get("CPU", 1)) // workers)
        tables = [
            pa.table({"path": [file.path for file in files], "size": [file.size for file in files]}) for files in lists
        ]
        outcomes = ray.data.from_arrow(tables).map_batches(
            _Actor,
            batch_size=None,  # keep the lists as they are
            batch_format="pyarrow",
            concurrency=workers,
            fn_constructor_args=(self._options if gpus else replace(self._options, threads=cores),),
            num_gpus=1 if gpus else None,
            num_cpus=None if gpus else cores,
        )
        for row in outcomes.iter_rows():
            yield PartOutcome(row["captioned"], row["failed"])


class _Actor:
    """Adapts `BulkCaptioner` to Ray Data."""

    def __init__(self, options: BulkOptions) -> None:
        self._captioner = BulkCaptioner(options)

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = zip(table["path"].to_pylist(), table["size"].to_pylist(), strict=True)
        outcome = self._captioner.caption([StoredFile(path, size) for path, size in rows])
        return pa.table({"captioned": [outcome.captioned], "failed": [outcome.failed]})
