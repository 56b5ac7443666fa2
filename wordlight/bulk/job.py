"""The job on Ray: lists of pictures, handed to actors that own a device each. In: pictures; out: what became of them.

Ray Data gives out the lists, starts again an actor that died, and has its list done by another. A list that is done
twice writes the same part twice.
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

from wordlight.bulk.actor import Captioning, Orders, Outcome
from wordlight.bulk.storage import Found


class CannotRun(Exception):
    """The job cannot begin or go on. The message is one line."""


class Job:
    """One run."""

    def __init__(self, orders: Orders, workers: int | None, address: str | None) -> None:
        """`address` is that of a cluster; None: one of our own, on this machine, for as long as the job runs."""
        self._orders, self._workers, self._address = orders, workers, address

    def run(self, pictures: Sequence[Found], part: int) -> Iterator[Outcome]:
        """Caption them all, `part` at a time; tells of each part that is written. Raises CannotRun."""
        if not pictures:
            return
        try:
            self._connect()
            yield from self._outcomes(pictures, part)
        except (RayError, ConnectionError) as error:
            # Ray tells whole tracebacks, and at their end what it was.
            raise CannotRun(str(error).strip().splitlines()[-1]) from error
        finally:
            ray.shutdown()

    def _connect(self) -> None:
        options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        if self._address is None:
            # A core for each worker, even where there are fewer; and nobody else's business.
            cores = max(os.cpu_count() or 1, self._workers or 1)
            options |= {"address": "local", "num_cpus": cores, "include_dashboard": False}
            options |= {"_node_ip_address": "127.0.0.1"}
        else:
            options |= {"address": self._address}
        ray.init(**options)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.enable_operator_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)

    def _outcomes(self, pictures: Sequence[Found], part: int) -> Iterator[Outcome]:
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        gpus = 0 if self._orders.device == "cpu" else int(resources.get("GPU", 0))
        lists = [pictures[first : first + part] for first in range(0, len(pictures), part)]
        workers = min(self._workers or gpus or 1, len(lists))
        cores = max(1, int(resources.get("CPU", 1)) // workers)
        tables = [pa.table({"path": [one.path for one in few], "size": [one.size for one in few]}) for few in lists]
        told = ray.data.from_arrow(tables).map_batches(
            _Actor,
            batch_size=None,  # each list as it is
            batch_format="pyarrow",
            concurrency=workers,
            fn_constructor_args=(self._orders if gpus else replace(self._orders, threads=cores),),
            num_gpus=1 if gpus else None,
            num_cpus=None if gpus else cores,
        )
        for row in told.iter_rows():
            yield Outcome(row["captioned"], row["failed"])


class _Actor:
    """`Captioning`, as Ray Data calls it."""

    def __init__(self, orders: Orders) -> None:
        self._captioning = Captioning(orders)

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = zip(table["path"].to_pylist(), table["size"].to_pylist(), strict=True)
        outcome = self._captioning.caption([Found(path, size) for path, size in rows])
        return pa.table({"captioned": [outcome.captioned], "failed": [outcome.failed]})
