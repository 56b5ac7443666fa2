"""How long a run has been trained, over all its interruptions. It must not know what it is that takes the time."""

import time


class Stopwatch:
    """Seconds gone by, and seconds that the process had a processor (all threads together), since it was started."""

    def __init__(self) -> None:
        self.seconds, self.processor_seconds = 0.0, 0.0
        self.start()

    def start(self) -> None:
        """Go on from here: what has passed since the last `read` is not counted."""
        self._since = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """What has been counted so far, as plain data for `resume`."""
        wall, processor = self._since
        self.start()
        self.seconds += self._since[0] - wall
        self.processor_seconds += self._since[1] - processor
        return {"seconds": self.seconds, "processor_seconds": self.processor_seconds}

    def resume(self, record: dict[str, float]) -> None:
        """Go on counting from what `read` gave in an earlier process."""
        self.seconds, self.processor_seconds = record["seconds"], record["processor_seconds"]
        self.start()
