"""ZIP archives: valid ones are extracted; hostile ones, made by the tests, are refused or lose single files."""

import io
import random
import resource
import struct
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.images.limits import ImageLimits
from app.images.picture import PictureRefused, Refusal, prepare
from app.uploads.archives import ArchiveLimits, ArchiveRefused, is_archive, members

KIB, MIB = 1024, 1024 * 1024
LIMITS = ArchiveLimits(files=100, file_bytes=20 * MIB, total_bytes=400 * MIB)
DAMAGED = "The archive is damaged or truncated."
DAMAGED_FILE = "The file in the archive is damaged."
STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED


@dataclass
class Entry:
    """An entry of an archive, with any header. A field that is None gets its true value."""

    name: bytes
    data: bytes
    method: int = STORED
    flags: int = 0
    size: int | None = None
    crc: int | None = None
    offset: int | None = None
    packed: bytes | None = None
    packed_size: int | None = None
    extra: bytes = b""
    version: int = 20

    def __post_init__(self) -> None:
        if self.packed is None:
            self.packed = deflated(self.data) if self.method == DEFLATED else self.data
        self.size = len(self.data) if self.size is None else self.size
        self.crc = zlib.crc32(self.data) if self.crc is None else self.crc
        self.packed_size = len(self.packed) if self.packed_size is None else self.packed_size

    def _common(self) -> bytes:
        return struct.pack("<4H3L", self.flags, self.method, 0, 0, self.crc, self.packed_size, self.size)

    def header(self, local_extra: bytes = b"") -> bytes:
        """The local header."""
        lengths = struct.pack("<2H", len(self.name), len(local_extra))
        return b"PK\3\4" + struct.pack("<H", self.version) + self._common() + lengths + self.name + local_extra

    def in_directory(self, offset: int) -> bytes:
        """The header in the central directory."""
        lengths = struct.pack("<3H", len(self.name), len(self.extra), 0)
        where = struct.pack("<2HLL", 0, 0, 0, offset if self.offset is None else self.offset)
        return (
            b"PK\1\2" + struct.pack("<2H", 20, self.version) + self._common() + lengths + where + self.name + self.extra
        )


def deflated(data: bytes, final: bool = True) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush(zlib.Z_FINISH if final else zlib.Z_SYNC_FLUSH)


def ended(body: bytes, directory: Iterable[bytes], comment: bytes = b"", **end_record: int) -> bytes:
    """An archive of a body and the entries of its directory; `end_record` overrides fields of its end record."""
    entries = list(directory)
    length = sum(map(len, entries))
    true = {"disk": 0, "first_disk": 0, "disk_entries": len(entries), "entries": len(entries), "length": length}
    record = true | {"start": len(body), "comment": len(comment)} | end_record
    return body + b"".join(entries) + struct.pack("<4s4H2LH", b"PK\5\6", *record.values()) + comment


def zipped(*entries: Entry, comment: bytes = b"", **end_record: int) -> bytes:
    """An archive of these entries, one after the other."""
    body, directory = b"", []
    for entry in entries:
        directory.append(entry.in_directory(len(body)))
        body += entry.header() + (entry.packed or b"")
    return ended(body, directory, comment, **end_record)


def unpacked(archive: bytes, limits: ArchiveLimits = LIMITS) -> list[tuple[str, bytes | str]]:
    """Extract an archive: the name of each file with its bytes, or the reason why it cannot be extracted."""
    extracted: list[tuple[str, bytes | str]] = []
    for member in members(io.BytesIO(archive), limits):
        if isinstance(member.content, str):
            extracted.append((member.name, member.content))
        else:
            with member.content as file:
                extracted.append((member.name, file.read()))
    return extracted


def refusal(archive: bytes, limits: ArchiveLimits = LIMITS) -> str:
    """Check that an archive is refused before its first file, and return the reason."""
    with pytest.raises(ArchiveRefused) as refused:
        next(members(io.BytesIO(archive), limits))
    return str(refused.value)


GOOD = Entry(b"good.jpg", b"good" * 100, DEFLATED)


def test_files_are_extracted_in_order() -> None:
    expected = [("a.jpg", b"a" * 100_000), ("b.png", b""), ("a.jpg", b"another")]
    for method in (STORED, DEFLATED):
        seekable, streamed = io.BytesIO(), io.BytesIO()
        with zipfile.ZipFile(seekable, "w", method) as archive:
            for number, (name, data) in enumerate(expected):
                archive.writestr(f"folder {number}/{name}", data)
            archive.comment = b"x" * 65_535
        with zipfile.ZipFile(Unseekable(streamed), "w", method) as archive:  # sizes come after the data
            archive.mkdir("folder")
            for number, (name, data) in enumerate(expected):
                archive.writestr(f"folder/{number}/{name}", data)
        for file in (seekable, streamed):
            assert is_archive(file)
            assert unpacked(file.getvalue()) == expected


class Unseekable(io.RawIOBase):
    """A file that cannot seek, like a pipe."""

    def __init__(self, file: io.BytesIO) -> None:
        self._file = file

    def writable(self) -> bool:
        """Tell zipfile that it can write."""
        return True

    def write(self, data: object) -> int:
        """Write to the end."""
        return self._file.write(data)  # type: ignore[arg-type]


def test_hidden_and_system_files_are_skipped() -> None:
    names = (
        "photos/",
        "photos\\",
        "__MACOSX/._a.jpg",
        "a/__MACOSX/b.jpg",
        ".DS_Store",
        "photos/.DS_Store",
        "Thumbs.db",
        "a\\Thumbs.db",
        "desktop.ini",
        ".git/a.jpg",
        "photos/.hidden.jpg",
    )
    litter = [Entry(name.encode(), b"") for name in names]
    assert unpacked(zipped(*litter, GOOD)) == [("good.jpg", GOOD.data)]
    assert refusal(zipped(*litter)) == "The archive holds no files."
    assert refusal(zipped()) == "The archive holds no files."


@pytest.mark.parametrize(
    ("name", "flags", "shown"),
    [
        (b"../../etc/passwd", 0, "passwd"),
        (b"/etc/passwd", 0, "passwd"),
        (b"C:\\Windows\\a.jpg", 0, "a.jpg"),
        (b"..", 0, ".."),
        (b"", 0, "unnamed"),
        (b"a.jpg\0.exe", 0, "a.jpg"),
        (b"a\nb\x1b[2J.jpg", 0, "a b\ufffd[2J.jpg"),
        ("a\u202egpj.exe".encode(), 0x800, "a\ufffdgpj.exe"),
        (b"x" * 65_000, 0, "x" * 199 + "…"),
        ("löwe.jpg".encode(), 0x800, "löwe.jpg"),
        ("lo\u0308we.jpg".encode(), 0, "löwe.jpg"),  # as a Mac writes it
        ("löwe.jpg".encode("cp437"), 0, "löwe.jpg"),  # as DOS does
        (b"\x93\xfa\x96{.jpg", 0, "ô·û{.jpg"),  # Shift-JIS is indistinguishable from code page 437
    ],
)
def test_names_are_for_display_only(name: bytes, flags: int, shown: str) -> None:
    assert unpacked(zipped(Entry(name, b"x", flags=flags))) == [(shown, b"x")]


def test_an_invalid_utf8_name_refuses_the_archive() -> None:
    assert refusal(zipped(GOOD, Entry(b"\xff\xfe.jpg", b"x", flags=0x800))) == DAMAGED


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (Entry(b"bad", b"x" * 9, crc=1), DAMAGED_FILE),
        (Entry(b"bad", b"x" * 9, DEFLATED, crc=1), DAMAGED_FILE),
        (Entry(b"bad", b"x", DEFLATED, packed=b"\xff" * 9), DAMAGED_FILE),
        (Entry(b"bad", b"x" * 999, DEFLATED, packed=deflated(b"x" * 999)[:-3]), DAMAGED_FILE),
        (Entry(b"bad", b"x" * 999, DEFLATED, packed=deflated(b"x" * 500, final=False)), DAMAGED_FILE),
        (Entry(b"bad", b"x", flags=0x1), "The file is encrypted."),
        (Entry(b"bad", b"x", flags=0x41), "The file is encrypted."),
        (Entry(b"bad", b"x", flags=0x20), DAMAGED_FILE),  # a patch of another file
        (Entry(b"bad", b"x", zipfile.ZIP_BZIP2), "The compression method of the file is not supported."),
        (Entry(b"bad", b"x", zipfile.ZIP_LZMA), "The compression method of the file is not supported."),
        (Entry(b"bad", b"x", 99), "The compression method of the file is not supported."),
        # False sizes: smaller than the data, with the CRC of all or of a part, and larger.
        (Entry(b"bad", b"x" * 99, DEFLATED, size=9), DAMAGED_FILE),
        (Entry(b"bad", b"x" * 99, DEFLATED, size=9, crc=zlib.crc32(b"x" * 9)), DAMAGED_FILE),
        (Entry(b"bad", b"x" * 99, DEFLATED, size=9, crc=zlib.crc32(b"x" * 10)), DAMAGED_FILE),
        (Entry(b"bad", b"x" * 99, size=9, crc=zlib.crc32(b"x" * 9)), DAMAGED_FILE),
        (Entry(b"bad", b"x" * 99, DEFLATED, size=999), DAMAGED_FILE),
        (Entry(b"bad", b"x" * 99, size=999), DAMAGED_FILE),
        (Entry(b"bad", b"x" * 99, DEFLATED, size=0), DAMAGED_FILE),
        (Entry(b"bad", b"x", size=20 * MIB + 1), "The file is larger than 20,971,520 bytes."),
        (Entry(b"bad", b"x", size=0xFFFFFFFF), "The file is larger than 20,971,520 bytes."),
        (Entry(b"bad", bytes(11 * MIB), DEFLATED), "The file is compressed to less than 1/200 of its size."),
    ],
)
def test_a_bad_file_fails_alone(bad: Entry, why: str) -> None:
    assert unpacked(zipped(GOOD, bad, GOOD)) == [("good.jpg", GOOD.data), ("bad", why), ("good.jpg", GOOD.data)]


def test_headers_that_contradict_the_directory() -> None:
    listed = Entry(b"a.jpg", b"x" * 9)
    longer = bytearray(listed.header())
    longer[28:30] = b"\xff\xff"  # the length of an extra field that does not exist
    for header in (Entry(b"b.jpg", b"x" * 9).header(), bytes(longer)):
        assert unpacked(ended(header + listed.data, [listed.in_directory(0)])) == [("a.jpg", DAMAGED_FILE)]
    name = b"\xff.jpg"  # which the local header claims to be UTF-8
    archive = ended(Entry(name, b"x", flags=0x800).header() + b"x", [Entry(name, b"x").in_directory(0)])
    assert [content for _, content in unpacked(archive)] == [DAMAGED_FILE]
    body = GOOD.header() + (GOOD.packed or b"")
    nowhere = ended(body + bytes(100), [GOOD.in_directory(0), listed.in_directory(len(body))])
    assert unpacked(nowhere) == [("good.jpg", GOOD.data), ("a.jpg", DAMAGED_FILE)]


def test_small_files_may_compress_well() -> None:
    page = bytes(9 * MIB)  # a scan of an empty page
    assert unpacked(zipped(Entry(b"page.tiff", page, DEFLATED))) == [("page.tiff", page)]


def test_limits_are_exact() -> None:
    five = [Entry(b"a", b"x" * 10, DEFLATED)] * 5
    at_limit = ArchiveLimits(files=5, file_bytes=10, total_bytes=50)
    assert len(unpacked(zipped(*five), at_limit)) == 5
    assert "5 files; at most 4" in refusal(zipped(*five), ArchiveLimits(files=4, file_bytes=10, total_bytes=50))
    assert "more than 49 bytes" in refusal(zipped(*five), ArchiveLimits(files=5, file_bytes=10, total_bytes=49))
    # A file that will not be extracted does not count.
    large = Entry(b"large", b"x" * 11)
    assert unpacked(zipped(large, *five[1:]), at_limit)[0] == ("large", "The file is larger than 10 bytes.")


def test_nested_archives_are_not_opened() -> None:
    layer = zipped(Entry(b"0.dll", bytes(8 * MIB), DEFLATED))
    for _ in range(5):  # after 42.zip
        layer = zipped(*[Entry(b"lib %d.zip" % number, layer, DEFLATED) for number in range(16)])
    for _, content in unpacked(layer):
        assert isinstance(content, bytes)
        with pytest.raises(PictureRefused) as refused:
            prepare(content, ImageLimits())
        assert refused.value.reason == Refusal.UNSUPPORTED_FORMAT


def test_overlapping_files_are_refused() -> None:
    kernel = Entry(b"a", bytes(MIB), DEFLATED)
    body = kernel.header() + (kernel.packed or b"")
    assert refusal(ended(body, [kernel.in_directory(0)] * 50)) == "Files in the archive overlap."


def test_files_that_quote_the_next_header_are_refused() -> None:
    """Fifield's quoted-overlap bomb: each file is a stored block with the next header, then the next file's data."""
    entry = Entry(b"kernel", bytes(MIB), DEFLATED)
    entries = [entry]
    for number in range(20):
        quoted, rest = entry.header(), entry.packed or b""
        block = b"\0" + struct.pack("<2H", len(quoted), len(quoted) ^ 0xFFFF) + quoted  # stored, not final
        entry = Entry(b"%d" % number, quoted + entry.data, DEFLATED, packed=block + rest)
        assert zlib.decompress(entry.packed or b"", -15) == entry.data
        entries.append(entry)
    body = entry.header() + (entry.packed or b"")
    offsets = [len(body) - len(entry.header() + (entry.packed or b"")) for entry in entries]
    directory = [entry.in_directory(offset) for entry, offset in zip(entries, offsets, strict=True)]
    assert sum(len(entry.data) for entry in entries) > 5000 * len(body)
    assert refusal(ended(body, directory)) == "Files in the archive overlap."


def test_files_inside_the_directory_are_refused() -> None:
    for offset in (5000, 0xFFFFFFF0):
        assert refusal(zipped(GOOD, Entry(b"a", b"x", offset=offset))) == DAMAGED
    beyond = Entry(b"a", b"x", packed_size=0xFFFFFFFE)
    assert refusal(zipped(beyond)) == DAMAGED
    far = struct.pack("<2H3Q", 1, 24, 2**64 - 1, 2**64 - 1, 2**64 - 1)  # ZIP64 sizes in an archive that is not ZIP64
    everywhere = Entry(b"a", b"x", size=0xFFFFFFFF, packed_size=0xFFFFFFFF, offset=0xFFFFFFFF, extra=far)
    assert refusal(zipped(everywhere)) == DAMAGED
    assert refusal(zipped(Entry(b"a", b"x", extra=b"\1\0\xff\xff"))) == DAMAGED
    assert refusal(zipped(Entry(b"a", b"x", version=250))) == DAMAGED


def test_directories_that_are_too_large_are_not_read() -> None:
    too_large = "The archive has more than 2,000 entries, or very long names."
    empty = Entry(b"", b"")
    entries = [empty.in_directory(number * 30) for number in range(100_000)]
    many = ended(empty.header() * 100_000, entries, disk_entries=100_000 % 65_536, entries=100_000 % 65_536)
    assert refusal(many) == too_large
    assert refusal(zipped(*[Entry(b"a", b"")] * 2001)) == too_large
    long_names = Entry(b"x" * 65_000, b"")
    assert refusal(zipped(*[long_names] * 17)) == too_large
    assert len(unpacked(zipped(*[long_names] * 16))) == 16


class OnlyItsEnd(io.BytesIO):
    """A file that fails if more than its end is read."""

    most = 70_000
    bytes_read = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, and count the bytes."""
        data = super().read(size)
        self.bytes_read += len(data)
        assert self.bytes_read <= self.most
        return data


@pytest.mark.parametrize(
    "end_record", [{"length": MIB + 1}, {"length": 0xFFFFFFFE}, {"disk_entries": 2001, "entries": 2001}]
)
def test_a_directory_is_refused_before_it_is_read(end_record: dict[str, int]) -> None:
    with pytest.raises(ArchiveRefused):
        next(members(OnlyItsEnd(zipped(Entry(b"a", bytes(3 * MIB)), **end_record)), LIMITS))


def test_zip64_and_archives_in_parts() -> None:
    zip64 = "ZIP64 archives are not supported."
    body, directory = GOOD.header() + (GOOD.packed or b""), GOOD.in_directory(0)
    start = len(body) + len(directory)
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, len(directory), len(body))
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, start, 1)
    plain_end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(directory), len(body), 0)
    full_end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    for end in (plain_end, full_end):  # without and with values that need ZIP64
        assert refusal(body + directory + record + locator + end) == zip64
    assert refusal(body + directory + full_end) == zip64
    comment = b"x" * 65_535  # the locator is as far from the end as possible
    assert refusal(body + directory + record + locator + plain_end[:-2] + b"\xff\xff" + comment) == zip64
    for end_record in ({"disk": 1}, {"first_disk": 1}, {"disk_entries": 0}):
        assert refusal(zipped(GOOD, **end_record)) == "Archives in several parts are not supported."


def test_data_before_after_or_between_files() -> None:
    archive = zipped(GOOD)
    for prefix in (b"MZ" + bytes(500), b"\xff\xd8\xff\xe0", b"\0"):
        assert refusal(prefix + archive) == "The file is not a ZIP archive, or other data precedes it."
        assert not is_archive(io.BytesIO(prefix + archive))
    assert refusal(archive + archive) == DAMAGED
    assert refusal(archive + b"\0") == DAMAGED
    assert refusal(zipped(GOOD, comment=b"PK\5\6" + bytes(18))) == DAMAGED
    assert refusal(zipped(GOOD, start=0)) == DAMAGED
    assert refusal(zipped(GOOD, entries=2, disk_entries=2)) == DAMAGED
    assert refusal(b"") == refusal(b"no archive at all")


def test_truncated_archives_are_refused() -> None:
    archive = zipped(GOOD, GOOD)
    for length in range(len(archive)):
        refusal(archive[:length])
    assert refusal(archive[:-1]) == DAMAGED


def test_a_full_disk_raises_oserror() -> None:
    archive = zipped(Entry(b"a", bytes(2 * MIB)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1200 * KIB, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            unpacked(archive)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(unpacked(archive)) == 1


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), changes=st.integers(1, 8))
def test_mutated_archives_give_the_same_files_or_refusals(seed: int, changes: int) -> None:
    """The result is a refusal, original files or sentences, and no other exception."""
    chance = random.Random(seed)
    archive = bytearray(zipped(GOOD, Entry(b"stored.jpg", b"stored" * 9), GOOD, comment=b"comment"))
    for _ in range(changes):
        archive[chance.randrange(len(archive))] = chance.choice((0, 1, 0x7F, 0xFF, chance.randrange(256)))
    try:
        for _, content in unpacked(bytes(archive)):
            assert content in (GOOD.data, b"stored" * 9) or isinstance(content, str)
    except ArchiveRefused:
        pass
