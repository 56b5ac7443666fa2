"""What people and programs are told of a run over photographs, and where its captions go.

In: what became of each photograph; out: lines, records in files, captions beside the photographs, and the sums.
"""

import json
import sys
from collections.abc import Sequence
from typing import Protocol

from wordlight.library.outcome import Captioned, Failed, Outcome
from wordlight.library.output import Output
from wordlight.terminal import Bar, Colour, paint


class NotWritten(Exception):
    """A caption could not be written beside its photograph, or into it. The message is one line."""


class Writer(Protocol):
    """Puts captions beside photographs, or into them."""

    def write(self, captioned: Captioned) -> str | None:
        """Write one; returns a line that says why, if it is left out on purpose. Raises NotWritten and OSError."""
        ...


class Report:
    """One run."""

    def __init__(
        self, outputs: Sequence[Output], writers: Sequence[Writer], bar: Bar, *, as_json: bool, known: int
    ) -> None:
        """`known` is how many photographs are in all files already."""
        self.failed = 0
        self._captioned = 0
        self._outputs, self._writers, self._bar = outputs, writers, bar
        self._as_json, self._known = as_json, known

    def take(self, outcome: Outcome) -> None:
        """Tell of one photograph. Raises OutputRefused."""
        if isinstance(outcome, Captioned):
            outcome = self._written(outcome)
        if isinstance(outcome, Captioned):
            self._captioned += 1
            for output in self._outputs:
                if not output.has(outcome.path):
                    output.add(outcome)
        else:
            self.failed += 1
        self._tell(outcome)
        self._bar.step()

    def sum_up(self) -> None:
        """Tell the sums, where the captions themselves are not told."""
        if not self._outputs:
            return
        names = [str(output.path) for output in self._outputs]
        if self._as_json:
            sums = {"captioned": self._captioned, "failed": self.failed, "known": self._known, "files": names}
            self._bar.say(json.dumps(sums), sys.stdout)
        else:
            known = f", {self._known} were there already" if self._known else ""
            failed = f", {self.failed} failed" if self.failed else ""
            self._bar.say(f"{self._captioned} captioned{known}{failed}: {', '.join(names)}", sys.stderr)

    def _written(self, captioned: Captioned) -> Outcome:
        """Put the caption beside its photograph before any file says that it is done."""
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

    def _tell(self, outcome: Outcome) -> None:
        if isinstance(outcome, Failed):
            if self._as_json:
                self._bar.say(json.dumps(outcome.as_dict()), sys.stdout)
            else:
                self._bar.say(f"{outcome.path}: {paint(outcome.error, Colour.WRONG, sys.stderr)}", sys.stderr)
        elif not self._outputs:
            plain = f"{paint(f'{outcome.path}:', Colour.FAINT, sys.stdout)} {outcome.best.text}"
            self._bar.say(json.dumps(outcome.as_dict()) if self._as_json else plain, sys.stdout)
