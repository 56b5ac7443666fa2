"""Captions beside photographs and in them: XMP sidecars, and descriptions inside the files, written by ExifTool.

A description that somebody else wrote stays, unless the user allows to overwrite it. Files are replaced whole.
"""

import json
import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from model.files import whole_file
from wordlight.library.outcome import CannotContinue, Captioned
from wordlight.library.photographs import identity
from wordlight.library.report import NotWritten

_STAYS: Final = "has another description, which stays (--overwrite replaces it)"
# The tags that photo libraries read as a description, as in the guidelines of the Metadata Working Group.
_DESCRIPTION: Final = "XMP-dc:Description"
_CAPTION: Final = "IPTC:Caption-Abstract"
_READ: Final = (f"{_DESCRIPTION}*", "XMP-tiff:ImageDescription*", _CAPTION, "EXIF:ImageDescription")
# Formats that carry IPTC. Others get XMP alone.
_IPTC_TYPES: Final = {"JPEG", "MPO", "TIFF"}

Tags = Mapping[str, str]


class FormatNotSupported(NotWritten):
    """ExifTool cannot write files of this format."""


class ExifTool:
    """A running ExifTool, which reads and writes descriptions."""

    def __init__(self) -> None:
        """Start ExifTool. Raises CannotContinue if it is not installed or too old."""
        from exiftool import ExifTool as Process
        from exiftool.exceptions import ExifToolException

        try:
            self._process = Process(common_args=[], config_file="", encoding="utf-8")
            # ExifTool inherits the mask: Ctrl-C lets it finish its file. PyExifTool would wait for ever for a dead one.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
            try:
                self._process.run()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        except FileNotFoundError as error:
            raise CannotContinue(
                "--write-xmp and --write-iptc need ExifTool, which is not installed (exiftool.org; "
                "Debian: apt-get install libimage-exiftool-perl)"
            ) from error
        except (ExifToolException, OSError, RuntimeError) as error:
            raise CannotContinue(f"ExifTool does not start: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()

    def read(self, path: Path) -> Tags:
        """Return the file type and the descriptions in a file, by tag. An unreadable file has none."""
        output, _ = self._execute("-json", "-G1", "-a", "-File:FileType", *(f"-{tag}" for tag in _READ), path)
        tags: list[dict[str, Any]] = json.loads(output or b"[{}]")
        return {name: str(value).strip() for name, value in tags[0].items()}

    def write(self, path: Path, tags: Tags, *options: str) -> None:
        """Write tags into a file, or into a new XMP sidecar. Raises NotWritten and leaves the file as it was."""
        values = [f"-{name}={value}" for name, value in tags.items()]
        output, messages = self._execute(*options, *values, path)
        if re.search(rb"1 image files (updated|created|unchanged)", output):
            return
        # Errors come after warnings.
        message = (messages.splitlines() or ["ExifTool wrote nothing"])[-1]
        if unsupported := re.match(r"Error: Writing of (\w+) files is not (?:yet )?supported", message):
            raise FormatNotSupported(f"ExifTool cannot write {unsupported[1]} files")
        raise NotWritten(message.removeprefix("Error: ").removesuffix(f" - {path}"))

    def _execute(self, *arguments: str | Path) -> tuple[bytes, str]:
        """Run one command. Returns its output and its messages. Raises NotWritten if ExifTool has died."""
        from exiftool.exceptions import ExifToolException

        try:
            output: bytes = self._process.execute(*map(_escaped, arguments), raw_bytes=True)
        except ExifToolException as error:
            raise NotWritten(f"ExifTool failed: {error}") from error
        return output, os.fsdecode(self._process.last_stderr)


class _Writer:
    """The part that both writers share."""

    def __init__(self, tool: ExifTool, *, overwrite: bool) -> None:
        self._tool, self._overwrite = tool, overwrite

    def _keeper(self, files: Sequence[Path], text: str) -> Path | None:
        """Return the first file with a description that must stay, or None."""
        if self._overwrite:
            return None
        return next((file for file in files if set(_descriptions(self._tool.read(file))) - {text}), None)


class SidecarWriter(_Writer):
    """Writes a sidecar beside each photograph: NAME.xmp, or NAME.jpg.xmp if several files share NAME."""

    def __init__(self, tool: ExifTool, *, overwrite: bool) -> None:
        super().__init__(tool, overwrite=overwrite)
        self._stems: dict[Path, Counter[str]] = {}

    def write(self, captioned: Captioned) -> str | None:
        """See Writer."""
        photo, text = captioned.path, captioned.best.text
        sidecars = _sidecars(photo)
        if keeper := self._keeper([photo, *sidecars], text):
            return f"{'it' if keeper == photo else keeper.name} {_STAYS}"
        longer, shared = photo.with_name(f"{photo.name}.xmp"), self._is_shared(photo)
        own = [sidecar for sidecar in sidecars if not shared or sidecar.stem == photo.name]
        for sidecar in own or [longer if shared else photo.with_suffix(".xmp")]:
            if self._tool.read(sidecar).get(_DESCRIPTION) == text:
                continue
            with whole_file(sidecar) as new:
                if sidecar.exists():
                    shutil.copyfile(sidecar, new)
                try:
                    _write(self._tool, new, {_DESCRIPTION: text})
                except NotWritten as error:
                    raise NotWritten(f"{sidecar}: {error}") from error
        return None

    def _is_shared(self, photo: Path) -> bool:
        """Return whether NAME.xmp would also belong to another file, such as the RAW file of the photograph."""
        folder = photo.parent
        if folder not in self._stems:
            files = (file for file in folder.iterdir() if file.suffix.lower() != ".xmp")
            self._stems[folder] = Counter(file.stem.lower() for file in files)
        return self._stems[folder][photo.stem.lower()] > 1


class PhotographWriter(_Writer):
    """Writes captions into copies of the photographs or, without a folder for copies, into the photographs."""

    def __init__(self, tool: ExifTool, photographs: Iterable[Path], copies: Path | None, *, overwrite: bool) -> None:
        """The copies lie in `copies` as the photographs do below their common folder."""
        super().__init__(tool, overwrite=overwrite)
        self._copies = copies
        self._common = os.path.commonpath([Path(identity(path)).parent for path in photographs]) if copies else ""

    def write(self, captioned: Captioned) -> str | None:
        """See Writer."""
        photo, text = captioned.path, captioned.best.text
        before = self._tool.read(photo)
        wanted = _wanted(before, text)
        changed = any(before.get(name) != value for name, value in wanted.items())
        note = None
        if keeper := self._keeper([photo, *_sidecars(photo)], text):
            changed, note = False, f"{'it' if keeper == photo else keeper.name} {_STAYS}"
        try:
            if self._copies:
                target = self._copies / os.path.relpath(identity(photo), self._common)
                target.parent.mkdir(parents=True, exist_ok=True)
                self._replace(target, photo, wanted if changed else {})
            elif changed and photo.stat().st_nlink > 1:
                # A replacement would separate the hard links.
                times = photo.stat().st_atime_ns, photo.stat().st_mtime_ns
                _write(self._tool, photo, wanted, in_place=True)
                os.utime(photo, ns=times)
            elif changed:
                self._replace(photo, photo, wanted)
        except FormatNotSupported as error:
            return str(error)
        return note

    def _replace(self, target: Path, photo: Path, tags: Tags) -> None:
        """Replace `target` by a copy of the photograph with its times and extended attributes, and with these tags."""
        with whole_file(target) as new:
            shutil.copyfile(photo, new)
            if tags:
                _write(self._tool, new, tags)
            shutil.copystat(photo, new)


def _sidecars(photo: Path) -> list[Path]:
    """Return the existing sidecars in which photo libraries look for a description of the photograph."""
    paths = [photo.with_suffix(suffix) for suffix in (".xmp", ".XMP")]
    paths += [photo.with_name(photo.name + suffix) for suffix in (".xmp", ".XMP")]
    # On a file system that ignores case, two names may be one file.
    return list({path.stat().st_ino: path for path in reversed(paths) if path.is_file()}.values())


def _descriptions(tags: Tags) -> Iterable[str]:
    """Return the descriptions in all tags and languages that are not empty."""
    return (text for name, text in tags.items() if "Description" in name or name == _CAPTION if text)


def _wanted(before: Tags, text: str) -> Tags:
    """Return the tags that a photograph must have: XMP, IPTC if the format carries it, and those that it has."""
    names = {_DESCRIPTION, *(name for name in before if name.endswith(("ImageDescription", _CAPTION)))}
    if before.get("File:FileType") in _IPTC_TYPES:
        names.add(_CAPTION)
    return dict.fromkeys(sorted(names), text)


def _write(tool: ExifTool, path: Path, tags: Tags, *, in_place: bool = False) -> None:
    """Write tags into a file. Raises NotWritten."""
    # Without a language, ExifTool would delete the descriptions in other languages.
    values = {f"{name}-x-default" if name.startswith("XMP-") else name: value for name, value in tags.items()}
    options = ["-P", "-overwrite_original_in_place" if in_place else "-overwrite_original"]
    if _CAPTION in tags:
        if not tags[_CAPTION].isascii():  # convert all IPTC text to UTF-8
            options += ["-tagsFromFile", "@", "-IPTC:all"]
            values = {"IPTC:CodedCharacterSet": "UTF8"} | values
        # Other programs compare the digest to learn whether the IPTC block was changed without the XMP.
        values["Photoshop:IPTCDigest"] = "new"
    tool.write(path, values, *options)


def _escaped(argument: str | Path) -> bytes:
    """Encode an argument for ExifTool's argument file, in which arguments are lines."""
    # An absolute path cannot look like an option.
    raw = os.fsencode(os.path.abspath(argument) if isinstance(argument, Path) else argument)  # noqa: PTH100
    if not re.search(rb"[\r\n]", raw):
        return raw
    for byte, escape in ((b"\\", rb"\\"), (b"\n", rb"\n"), (b"\r", rb"\r")):
        raw = raw.replace(byte, escape)
    return b"#[CSTR]" + raw
