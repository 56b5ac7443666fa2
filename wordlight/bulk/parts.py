"""The output of `wordlight bulk`: files of many rows, one row per picture.

A row has the `path` of its picture below the input, and either `captions` and the version of the captioner (`model`) or
an `error`. The name of a file depends on its pictures only: a part that is written twice replaces itself.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import pyarrow as pa
from pyarrow import parquet

from wordlight.bulk.storage import Storage

Format = Literal["jsonl", "parquet"]
Row = dict[str, Any]

_MAP = pa.struct([("rows", pa.int32()), ("cols", pa.int32()), ("weights", pa.list_(pa.float32()))])
_WORD = pa.struct(
    [
        ("text", pa.string()),
        ("logprob", pa.float64()),
        ("attention", _MAP),
        ("heatmap", _MAP),
        ("visual_grounding", pa.float64()),
        ("in_vocabulary", pa.bool_()),
    ]
)
_CAPTION = pa.struct(
    [
        ("text", pa.string()),
        ("logprob", pa.float64()),
        ("words", pa.list_(_WORD)),
        ("confidence", pa.float64()),
        ("confident", pa.bool_()),
    ]
)
_SCHEMA = pa.schema(
    [("path", pa.string()), ("captions", pa.list_(_CAPTION)), ("model", pa.string()), ("error", pa.string())]
)


class Parts:
    """The files in a storage, in one of the formats."""

    def __init__(self, storage: Storage, format: Format) -> None:
        self._storage, self._format = storage, format

    def write(self, rows: Sequence[Row]) -> None:
        """Write one file. Raises OSError."""
        name = hashlib.sha256("\0".join(row["path"] for row in rows).encode()).hexdigest()[:24]
        data = _jsonl(rows) if self._format == "jsonl" else _parquet(rows)
        self._storage.write(f"part-{name}.{self._format}", data)

    def done(self, *, failed_too: bool) -> set[str]:
        """Return the pictures that have a row, in files of either format. Raises StorageUnusable."""
        files = self._storage.files(must_exist=False)
        return {
            path
            for file in files
            if file.path.startswith("part-")
            for path, failed in self._outcomes(file.path)
            if failed_too or not failed
        }

    def _outcomes(self, name: str) -> Iterator[tuple[str, bool]]:
        """Yield each picture in a file, and whether it failed."""
        if name.endswith(".jsonl"):
            for line in self._storage.read(name).splitlines():
                row = json.loads(line)
                yield row["path"], "error" in row
        elif name.endswith(".parquet"):
            table = parquet.read_table(io.BytesIO(self._storage.read(name)), columns=["path", "error"])
            for path, error in zip(table["path"].to_pylist(), table["error"].to_pylist(), strict=True):
                yield path, error is not None


def _jsonl(rows: Sequence[Row]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _parquet(rows: Sequence[Row]) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(list(rows), schema=_SCHEMA), sink, compression="zstd")
    return sink.getvalue()
