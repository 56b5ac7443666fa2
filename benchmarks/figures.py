"""What benchmarks say: medians and spreads, aims met or missed, a table, and a last line of JSON.

In: numbers; out: plain data and lines of text. It must not know what was measured.
"""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def spread(values: Sequence[float], digits: int = 3) -> dict[str, float]:
    """The median of some runs, the least and the most of them, and how many they are."""
    low, high = min(values), max(values)
    return {
        "median": round(float(np.median(values)), digits),
        "min": round(low, digits),
        "max": round(high, digits),
        "runs": len(values),
    }


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Latencies in ms, and of how many requests: with fewer than a hundred, p99 is hardly less than the longest."""
    p50, p95, p99 = np.percentile(seconds, (50, 95, 99)) * 1000
    return {
        "p50_ms": round(float(p50), 2),
        "p95_ms": round(float(p95), 2),
        "p99_ms": round(float(p99), 2),
        "max_ms": round(max(seconds) * 1000, 2),
        "requests": len(seconds),
    }


def aim(value: float, *, least: float | None = None, most: float | None = None) -> dict[str, Any]:
    """A figure beside its aim, which is a bound on one side. That it is missed is said, and is no failure."""
    met = (least is None or value >= least) and (most is None or value <= most)
    return {"value": value, "aim": f"≥ {least:g}" if least is not None else f"≤ {most:g}", "met": met}


def machine() -> dict[str, Any]:
    """What this ran on, and how busy that was: the load of the last minute."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": names[0].partition(":")[2].strip() if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load_1min": round(os.getloadavg()[0], 1),
    }


def print_table(rows: Sequence[Mapping[str, object]]) -> None:
    """Rows with the same columns, named by the first."""
    columns = list(rows[0])
    cells = [columns, *([str(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(columns))]
    for line in cells:
        first, *others = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join([first.strip().ljust(widths[0]), *others]))
    print(flush=True)


def finish(benchmark: str, figures: Mapping[str, Any], aims: Mapping[str, Mapping[str, Any]]) -> None:
    """The aims, a line each, and all figures as the last line."""
    for name, one in aims.items():
        print(f"{name}: {one['value']:g}; aim {one['aim']}: {'met' if one['met'] else 'missed'}")
    print(json.dumps({"benchmark": benchmark, "machine": machine(), **figures, "aims": aims}))
