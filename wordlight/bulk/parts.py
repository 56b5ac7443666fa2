"""The output: files of many rows each, a row a picture. In: rows; out: files that are there whole or not at all.

A row names its picture by `path`, below the input, and has the `captions` and the version of the captioner (`model`),
or else an `error`. A file is named after the pictures in it, so that one that is made twice is made in its own place.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import pyarrow as pa
from pyarrow import parquet

from wordlight.bulk.place import Place

Form = Literal["jsonl", "parquet"]
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
    """The files in one place, in one form or the other."""

    def __init__(self, place: Place, form: Form) -> None:
        self._place, self._form = place, form

    def write(self, rows: Sequence[Row]) -> None:
        """One file more. May raise OSError."""
        name = hashlib.sha256("\0".join(row["path"] for row in rows).encode()).hexdigest()[:24]
        self._place.write(f"part-{name}.{self._form}", _jsonl(rows) if self._form == "jsonl" else _parquet(rows))

    def done(self, *, failed_too: bool) -> set[str]:
        """Pictures that have a row, in files of either form. Raises NoSuchPlace."""
        files = self._place.files(must_exist=False)
        return {
            path
            for file in files
            if file.path.startswith("part-")
            for path, failed in self._outcomes(file.path)
            if failed_too or not failed
        }

    def _outcomes(self, name: str) -> Iterator[tuple[str, bool]]:
        """Each picture in a file, and whether it could not be captioned."""
        if name.endswith(".jsonl"):
            for line in self._place.read(name).splitlines():
                row = json.loads(line)
                yield row["path"], "error" in row
        elif name.endswith(".parquet"):
            table = parquet.read_table(io.BytesIO(self._place.read(name)), columns=["path", "error"])
            for path, error in zip(table["path"].to_pylist(), table["error"].to_pylist(), strict=True):
                yield path, error is not None


def _jsonl(rows: Sequence[Row]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _parquet(rows: Sequence[Row]) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(list(rows), schema=_SCHEMA), sink, compression="zstd")
    return sink.getvalue()
