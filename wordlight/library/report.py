"""Reports a run over photographs: passes each outcome to files and writers, prints it, and sums up."""

import json
import sys
from collections.abc import Sequence
from typing import Protocol

from wordlight.library.caption_files import CaptionFile
from wordlight.library.outcome import Captioned, Failed, Outcome
from wordlight.terminal import Bar, Colour, paint


class NotWritten(Exception):
    """A caption could not be written beside or into its photograph. The message is one line."""


class Writer(Protocol):
    """Writes captions beside photographs or into them."""

    def write(self, captioned: Captioned) -> str | None:
        """Write one caption. Returns why, if it is left out on purpose. Raises NotWritten and OSError."""
        ...


class Report:
    """One run."""

    def __init__(
        self, files: Sequence[CaptionFile], writers: Sequence[Writer], bar: Bar, *, as_json: bool, known: int
    ) -> None:
        """`known` is the number of photographs that all files have already."""
        self.failed = 0
        self._captioned = 0
        self._files, self._writers, self._bar = files, writers, bar
        self._as_json, self._known = as_json, known

    def take(self, outcome: Outcome) -> None:
        """Record and print one outcome. Raises FileRefused."""
        if isinstance(outcome, Captioned):
            outcome = self._written(outcome)
        if isinstance(outcome, Captioned):
            self._captioned += 1
            for file in self._files:
                if not file.has(outcome.path):
                    file.add(outcome)
        else:
            self.failed += 1
        self._print(outcome)
        self._bar.step()

    def sum_up(self) -> None:
        """Print the totals, if captions go to files."""
        if not self._files:
            return
        names = [str(file.path) for file in self._files]
        if self._as_json:
            sums = {"captioned": self._captioned, "failed": self.failed, "known": self._known, "files": names}
            self._bar.say(json.dumps(sums), sys.stdout)
        else:
            known = f", {self._known} done before" if self._known else ""
            failed = f", {self.failed} failed" if self.failed else ""
            self._bar.say(f"{self._captioned} captioned{known}{failed}: {', '.join(names)}", sys.stderr)

    def _written(self, captioned: Captioned) -> Outcome:
        """Write beside the photograph first, so that a file of captions never promises a sidecar that is missing."""
        for writer in self._writers:
            try:
                note = writer.write(captioned)
            except NotWritten as error:
                return Failed(captioned.path, str(error))
            except OSError as error:
                where = f"{error.filename}: " if error.filename else ""
                return Failed(captioned.path, f"{where}{error.strerror or error}")
            if note:
                self._bar.say(paint(f"{captioned.path}: {note}", Colour.FAINT, sys.stderr), sys.stderr)
        return captioned

    def _print(self, outcome: Outcome) -> None:
        if isinstance(outcome, Failed):
            if self._as_json:
                self._bar.say(json.dumps(outcome.as_dict()), sys.stdout)
            else:
                self._bar.say(f"{outcome.path}: {paint(outcome.error, Colour.ERROR, sys.stderr)}", sys.stderr)
        elif not self._files:
            plain = f"{paint(f'{outcome.path}:', Colour.FAINT, sys.stdout)} {outcome.best.text}"
            self._bar.say(json.dumps(outcome.as_dict()) if self._as_json else plain, sys.stdout)
