"""ZIP files of strangers, made here: what is in them comes out within the limits, and nothing else does."""

import io
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.archives import ArchiveLimits, ArchiveRefused, is_archive, members, shown_name

KB, MB = 1024, 1024 * 1024
LIMITS = ArchiveLimits(files=10, file_bytes=100 * KB, total_bytes=300 * KB)
NAME = "a picture.jpg"
DATA = b"picture " * 40

UTF8, ENCRYPTED = 0x800, 1


@dataclass
class Entry:
    """A member, with every field open to lies; None: the truth."""

    name: bytes = NAME.encode()
    data: bytes = DATA
    method: int = zipfile.ZIP_DEFLATED
    flags: int = 0
    crc: int | None = None
    size: int | None = None  # in both headers
    compressed_size: int | None = None
    offset: int | None = None
    local_name: bytes | None = None
    local_flags: int | None = None
    extra: bytes = b""  # in the central directory
    raw: bytes | None = None  # instead of what `data` is compressed to


def local_and_central(entry: Entry, at: int) -> tuple[bytes, bytes]:
    """A member's local header with its bytes, which begin at `at`, and its central header."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = deflate.compress(entry.data) + deflate.flush() if entry.method == zipfile.ZIP_DEFLATED else entry.data
    packed = packed if entry.raw is None else entry.raw
    crc = zlib.crc32(entry.data) if entry.crc is None else entry.crc
    size = len(entry.data) if entry.size is None else entry.size
    compressed = len(packed) if entry.compressed_size is None else entry.compressed_size
    local_name = entry.name if entry.local_name is None else entry.local_name
    local_flags = entry.flags if entry.local_flags is None else entry.local_flags
    offset = at if entry.offset is None else entry.offset
    local = struct.pack(
        "<4s5H3L2H", b"PK\3\4", 20, local_flags, entry.method, 0, 33, crc, compressed, size, len(local_name), 0
    )
    central = struct.pack(
        "<4s6H3L5H2L",
        *(b"PK\1\2", 20, 20, entry.flags, entry.method, 0, 33, crc, compressed, size),
        *(len(entry.name), len(entry.extra), 0, 0, 0, 0, offset),
    )
    return local + local_name + packed, central + entry.name + entry.extra


def end_record(
    entries: int,
    directory_bytes: int,
    directory_at: int,
    comment: bytes = b"",
    disk: int = 0,
    length: int | None = None,
) -> bytes:
    told = len(comment) if length is None else length
    fields = (b"PK\5\6", disk, disk, entries, entries, directory_bytes, directory_at, told)
    return struct.pack("<4s4H2LH", *fields) + comment


def archive(*entries: Entry, comment: bytes = b"", disk: int = 0, lie: int = 0, prefix: bytes = b"") -> bytes:
    """A ZIP file of `entries`, whose directory is said to begin `lie` bytes after where it does."""
    body, directory = prefix, b""
    for entry in entries:
        local, central = local_and_central(entry, len(body) - len(prefix))
        body, directory = body + local, directory + central
    where = len(body) - len(prefix) + lie
    return body + directory + end_record(len(entries), len(directory), where, comment, disk)


def plain(*names: str, data: bytes = DATA) -> bytes:
    """A ZIP file as the library writes it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        for name in names:
            opened.writestr(name, data)
    return file.getvalue()


def extract(data: bytes, limits: ArchiveLimits = LIMITS) -> list[tuple[str, bytes | str]]:
    """The members with their bytes, or with the sentence that stands for them. Every file is closed."""
    found: list[tuple[str, bytes | str]] = []
    with SpooledTemporaryFile(64 * KB) as file:
        file.write(data)
        file.seek(0)
        for member in members(cast(BinaryIO, file), limits):
            if isinstance(member.content, str):
                found.append((member.name, member.content))
                continue
            with member.content:
                found.append((member.name, member.content.read()))
            assert len(cast(bytes, found[-1][1])) == member.expanded
    return found


def refusal(data: bytes, limits: ArchiveLimits = LIMITS) -> str:
    with pytest.raises(ArchiveRefused) as refused:
        extract(data, limits)
    return str(refused.value)


def only(data: bytes) -> bytes | str:
    ((_, content),) = extract(data)
    return content


def test_files_come_in_their_order_with_their_bytes() -> None:
    assert extract(plain("b.jpg", "folder/a.jpg", "c")) == [("b.jpg", DATA), ("a.jpg", DATA), ("c", DATA)]
    assert only(archive(Entry(method=zipfile.ZIP_STORED))) == DATA
    assert only(archive(Entry(data=b""))) == b""


def test_what_systems_leave_in_folders_is_left_out() -> None:
    left_out = ["a/", "__MACOSX/._a.jpg", "x/.DS_Store", ".hidden/a.jpg", "Thumbs.db", "x/desktop.ini", ".git"]
    assert extract(plain(*left_out[:3], "a.jpg", *left_out[3:])) == [("a.jpg", DATA)]
    assert refusal(plain(*left_out)) == "The archive holds no files."
    assert refusal(plain()) == "The archive holds no files."


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("C:\\Users\\me\\dog.jpg", "dog.jpg"),
        ("a/..", ".."),
        ("dog\r\nX-Evil: 1\x1b[2J.jpg", "dogX-Evil: 1[2J.jpg"),
        ("gpj.\u202egod", "gpj.god"),
        ("ünï漢\U0001f600.jpg", "ünï漢\U0001f600.jpg"),
        ("\ud800.jpg", ".jpg"),
        ("x" * 500 + ".jpg", "x" * 116 + ".jpg"),
        ("\x01", "file"),
        ("", "file"),
    ],
)
def test_a_name_is_shown_without_what_could_mislead(name: str, shown: str) -> None:
    assert shown_name(name) == shown


def test_names_are_read_in_the_encoding_that_they_claim() -> None:
    assert extract(archive(Entry(name="日本.jpg".encode(), flags=UTF8)))[0][0] == "日本.jpg"
    assert extract(archive(Entry(name=b"\x81.jpg")))[0][0] == "ü.jpg"  # code page 437
    assert refusal(archive(Entry(name=b"\xff", flags=UTF8))) == "The archive is damaged or cut short."


DAMAGED = "The file is damaged in the archive."
ALONE = {
    "encrypted": (Entry(flags=ENCRYPTED), "The file is encrypted."),
    "bzip2": (Entry(method=zipfile.ZIP_BZIP2), "The file is compressed in a way that is not taken."),
    "lzma": (Entry(method=zipfile.ZIP_LZMA), "The file is compressed in a way that is not taken."),
    "unknown method": (Entry(method=99), "The file is compressed in a way that is not taken."),
    "bad CRC": (Entry(crc=7), DAMAGED),
    "smaller than it says": (Entry(size=len(DATA) + 1, compressed_size=3), DAMAGED),
    "larger than it says": (Entry(size=8), DAMAGED),
    "not deflated": (Entry(raw=b"\xff" * 50), DAMAGED),
    "patched": (Entry(flags=0x20), DAMAGED),
    "strongly encrypted": (Entry(flags=0x40), DAMAGED),
    "another name in the local header": (Entry(local_name=b"b picture.jpg"), DAMAGED),
    "no text in the local header": (Entry(local_name=b"\xff" * len(NAME), local_flags=UTF8), DAMAGED),
    "behind the end": (Entry(offset=10 * MB), DAMAGED),
    "not at a header": (Entry(offset=60), DAMAGED),
    "beyond all files": (Entry(offset=0xFFFFFFFF, extra=struct.pack("<2HQ", 1, 8, 2**64 - 1)), DAMAGED),
    "too large": (Entry(data=bytes(LIMITS.file_bytes + 1)), "The file is larger than 102,400 bytes."),
    "too large in secret": (Entry(data=bytes(LIMITS.file_bytes + 1), size=1), DAMAGED),
}


@pytest.mark.parametrize("name", ALONE)
def test_a_file_that_cannot_be_had_costs_the_others_nothing(name: str) -> None:
    bad, why = ALONE[name]
    good = Entry(name=b"good.jpg")
    assert sorted(extract(archive(good, bad)), key=lambda found: found[0]) == [(NAME, why), ("good.jpg", DATA)]


def test_a_file_as_large_as_may_be_is_had() -> None:
    assert only(archive(Entry(data=bytes(LIMITS.file_bytes)))) == bytes(LIMITS.file_bytes)


def test_an_archive_within_an_archive_stays_closed() -> None:
    inner = archive(*(Entry(name=b"%d" % number, data=bytes(90 * KB)) for number in range(10)))
    assert only(archive(Entry(name=b"0.zip", data=inner))) == inner


@pytest.mark.parametrize("bad", [{}, {"crc": 7}, {"size": 99 * KB}])
def test_a_bomb_is_refused_whatever_becomes_of_its_files(bad: dict[str, int]) -> None:
    bomb = archive(*(Entry(name=b"%d" % number, data=bytes(100 * KB), **bad) for number in range(10)))  # type: ignore[arg-type]
    assert len(bomb) < 4 * KB
    assert refusal(bomb) == "The archive expands to too many bytes."


def test_files_that_are_too_large_count_as_far_as_they_were_read() -> None:
    bomb = archive(*(Entry(name=b"%d" % number, data=bytes(MB)) for number in range(10)))
    assert refusal(bomb) == "The archive expands to too many bytes."


def test_a_bomb_takes_no_memory() -> None:
    bomb = archive(Entry(data=bytes(200 * MB)), Entry(name=b"b", data=bytes(30 * MB)))
    tracemalloc.start()
    try:
        found = extract(bomb, ArchiveLimits(10, 20 * MB, 400 * MB))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [content for _, content in found] == ["The file is larger than 20,971,520 bytes."] * 2
    assert peak < 8 * MB


def fifield(entries: int, size: int = 90 * KB) -> bytes:
    """Files that share one another's bytes by quoting the headers in between (Fifield, 2019)."""
    kernel = bytes(size)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = deflate.compress(kernel) + deflate.flush()
    body, directory, data = b"", b"", kernel
    for number in reversed(range(entries)):
        quote = b"\0" + struct.pack("<HH", len(body), 0xFFFF ^ len(body)) if body else b""
        if body:
            packed, data = quote + body[: 30 + 4] + packed, body[: 30 + 4] + data
        entry = Entry(name=b"%04d" % number, data=data, raw=packed)
        local, _ = local_and_central(entry, 0)
        body = local
    at = 0
    for number in range(entries):
        _, central = local_and_central(Entry(name=b"%04d" % number, data=data, raw=packed, offset=at), at)
        directory += central
        at += 39
    return body + directory + end_record(entries, len(directory), len(body))


@pytest.mark.parametrize(
    "overlapping",
    [
        fifield(5),
        archive(Entry(), Entry(name=b"b", offset=0)),
        archive(Entry(), *(Entry(name=b"%d" % number, offset=0) for number in range(5))),
    ],
    ids=["quoting", "two names for one file", "six names for one file"],
)
def test_files_that_share_bytes_are_refused(overlapping: bytes) -> None:
    assert refusal(overlapping) == "Files in the archive overlap."


def test_too_many_files() -> None:
    assert len(extract(plain(*map(str, range(10))))) == 10
    assert refusal(plain(*map(str, range(11)))) == "The archive holds more than 10 files."


@pytest.mark.parametrize("count", [2_001, 60_000, 100_000])
def test_very_many_entries_are_not_even_looked_at(count: int) -> None:
    central = local_and_central(Entry(name=b"x", data=b""), 0)[1]
    local = local_and_central(Entry(name=b"x", data=b""), 0)[0]
    told = min(count, 0xFFFF)
    data = local + central * count + end_record(told, len(central) * count, len(local))
    tracemalloc.start()
    try:
        assert "more than 2000 entries" in refusal(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * MB  # the records of so many would take ten times as much


def test_more_entries_than_the_end_tells_of_are_counted() -> None:
    central = local_and_central(Entry(name=b"x", data=b""), 0)[1] * 5_000
    local = local_and_central(Entry(name=b"x", data=b""), 0)[0]
    assert "2000 entries" in refusal(local + central + end_record(1, len(central), len(local)))


def zip64(count: int, comment: bytes = b"") -> bytes:
    """An archive whose end says that the truth about it is in a larger record before."""
    central = local_and_central(Entry(name=b"x", data=b""), 0)[1] * count
    local = local_and_central(Entry(name=b"x", data=b""), 0)[0]
    body = local + central
    fields = (b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(central), len(local))
    end64 = struct.pack("<4sQ2H2L4Q", *fields)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(body), 1)
    return body + end64 + locator + end_record(1, 50, len(local), comment)


@pytest.mark.parametrize("comment", [0, 1, 1000, 65_514, 65_515, 65_534, 65_535])
def test_zip64_is_refused_however_far_from_the_end(comment: int) -> None:
    assert refusal(zip64(3000, b"c" * comment)) == "ZIP64 archives are not taken."


def test_archives_in_parts_are_refused() -> None:
    assert refusal(archive(Entry(), disk=1)) == "Archives in several parts are not taken."


def test_a_comment_may_say_anything_but_not_pass_for_the_end() -> None:
    assert only(archive(Entry(), comment=b"holidays")) == DATA
    assert only(archive(Entry(), comment=b"c" * 65_535)) == DATA
    hidden = archive(Entry(name=b"hidden"))
    assert [name for name, _ in extract(archive(Entry(), comment=b"no end: PK\5\7" + bytes(30)))] == [NAME]
    # Whichever end counts, it is that which was checked.
    for comment in (hidden, end_record(0xFFFF, 0xFFFFFFF0, 0), end_record(1, 2**31, 0) + b"x", zip64(1000)):
        for data in (archive(Entry(), comment=comment), archive(Entry(), comment=comment + b"\0\0")):
            try:
                found = extract(data)
            except ArchiveRefused:
                continue
            assert len(found) == 1


def test_bytes_before_the_archive_change_nothing() -> None:
    program = b"MZ" + bytes(5000)
    assert only(archive(Entry(), prefix=program)) == DATA
    assert only(program + archive(Entry())) == DATA


@pytest.mark.parametrize("lie", [1, 5, 100_000, 2**31])
def test_an_end_that_lies_about_where_the_directory_is(lie: int) -> None:
    assert refusal(archive(Entry(), lie=lie)) == "The archive is damaged or cut short."


def test_an_archive_that_is_cut_anywhere_is_refused() -> None:
    whole = archive(Entry(), Entry(name=b"b.jpg"))
    for length in range(len(whole)):
        refusal(whole[:length])


def test_an_archive_is_known_by_its_start() -> None:
    for data, known in ((plain("a"), True), (plain(), True), (b"", False), (b"PK", False), (b"\xff\xd8\xff", False)):
        file = io.BytesIO(data)
        assert is_archive(file) is known
        assert file.tell() == 0


@pytest.mark.parametrize("end", ["refused", "abandoned"])
def test_whoever_stops_leaves_nothing_open(end: str) -> None:
    """A file that was left open would be a ResourceWarning, which is an error."""
    file = io.BytesIO(archive(*(Entry(name=b"%d" % number, data=bytes(90 * KB)) for number in range(10))))
    found = members(file, LIMITS)
    for member in found:
        assert not isinstance(member.content, str)
        member.content.close()
        if end == "abandoned":
            break
        if member.name == "2":
            with pytest.raises(ArchiveRefused):
                next(found)
            break
    found.close()  # type: ignore[attr-defined]
    assert not file.closed


WHOLE = archive(
    Entry(),
    Entry(name="ü.jpg".encode(), flags=UTF8, method=zipfile.ZIP_STORED),
    Entry(name=b"large", data=bytes(50 * KB)),
    Entry(name=b"far", extra=struct.pack("<2HQ", 1, 8, 60), offset=None),
    comment=b"a comment",
)
VALUES = (b"\0\0", b"\xff\xff", b"\xff\xff\xff\xff", b"\0\0\0\0", b"PK\5\6", b"PK\3\4", b"PK\1\2", b"PK\6\7", b"\1\0")


def flip(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes([data[at] ^ value]) + data[at + 1 :]


CHANGES: dict[str, Callable[[bytes, int, int], bytes]] = {
    "flip": lambda data, at, value: flip(data, at, value % 255 + 1),
    "put": lambda data, at, value: (
        data[:at] + VALUES[value % len(VALUES)] + data[at + len(VALUES[value % len(VALUES)]) :]
    ),
    "cut out": lambda data, at, value: data[:at] + data[at + value :],
    "put in": lambda data, at, value: data[:at] + bytes([value % 256]) * (value % 40) + data[at:],
    "repeat": lambda data, at, value: data[:at] + data[max(0, at - value) : at] + data[at:],
    "cut off": lambda data, at, _value: data[:at],
}
Change = tuple[str, float, int]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from(sorted(CHANGES)), st.floats(0, 1), st.integers(0, 300)), min_size=1, max_size=6)
)
def test_no_change_of_an_archive_raises_anything_else(changes: Sequence[Change]) -> None:
    data = WHOLE
    for kind, where, value in changes:
        if data:
            data = CHANGES[kind](data, int(where * (len(data) - 1)), value)
    try:
        found = extract(data)
    except ArchiveRefused:
        return
    assert sum(len(content) for _, content in found if isinstance(content, bytes)) <= LIMITS.total_bytes
    assert len(found) <= LIMITS.files
