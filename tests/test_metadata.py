"""Descriptions beside photographs and in them, read by others: Pillow, XML parsers and, where it is there, exiftool."""

import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image, IptcImagePlugin

from jobs.job import Caption, ImageSize, ModelInfo
from wordlight.library.iptc import caption_in, with_caption
from wordlight.library.jpeg import APP1, APP13, DamagedJpeg, Segment, join, split
from wordlight.library.record import Captioned
from wordlight.library.report import NotWritten
from wordlight.library.writers import Captions, Sidecars
from wordlight.library.xmp import NotXmp, description_in, with_description

TEXTS = ["a dog runs", 'a <cat> & a "dog"', "größe 犬"]
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
DC = "{http://purl.org/dc/elements/1.1/}"
LANG = "{http://www.w3.org/XML/1998/namespace}lang"
XMP = b"http://ns.adobe.com/xap/1.0/\0"

# As darktable writes one: other prefixes, comments, history, ratings.
SIDECAR = """<?xml version="1.0" encoding="UTF-8"?>
<!-- ours -->
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <r:Description r:about="uuid:1" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4" xmp:Label='a > b&#10;c'>
   <history><r:Seq><r:li num="1"/></r:Seq></history>%s
  </r:Description>
 </r:RDF>
</x:xmpmeta>
"""
ALT = '<d:description xmlns:d="http://purl.org/dc/elements/1.1/"><r:Alt>%s</r:Alt></d:description>'
GERMAN = '<r:li xml:lang="de">ein Hund</r:li>'


def descriptions(packet: bytes) -> dict[str | None, str | None]:
    """The descriptions by language, as an XML parser finds them."""
    root = ElementTree.fromstring(packet)
    return {item.get(LANG): item.text for item in root.findall(f".//{DC}description/{RDF}Alt/{RDF}li")}


def jpeg(**options: Any) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((64, 48)).save(file, "JPEG", **options)
    return file.getvalue()


def caption_read_by_pillow(data: bytes) -> str:
    with Image.open(io.BytesIO(data)) as image:
        info = IptcImagePlugin.getiptcinfo(image)
    assert info
    value = info[(2, 120)]
    assert isinstance(value, bytes)
    return value.decode()


def pixels(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        return image.tobytes()


@pytest.mark.parametrize("text", TEXTS)
def test_a_new_packet_has_one_description(text: str) -> None:
    packet = with_description(None, text)
    assert descriptions(packet) == {"x-default": text}
    assert description_in(packet) == text
    assert with_description(packet, text) == packet


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize(
    ("there", "others"),
    [
        ("", {}),
        (ALT % GERMAN, {"de": "ein Hund"}),
        (ALT % ('<r:li xml:lang="x-default">old &amp; &lt;grey></r:li>' + GERMAN), {"de": "ein Hund"}),
        (ALT % '<r:li xml:lang="x-default"/>', {}),
        (ALT % "", {}),
        ('<d:description xmlns:d="http://purl.org/dc/elements/1.1/"/>', {}),
        ('<d:description xmlns:d="http://purl.org/dc/elements/1.1/">old</d:description>', {}),
    ],
)
def test_only_the_description_changes(text: str, there: str, others: dict[str, str]) -> None:
    before = (SIDECAR % there).encode()
    after = with_description(before, text)
    assert descriptions(after) == {"x-default": text, **others}
    head, _ = SIDECAR.encode().split(b"%s")
    assert after.startswith(head)
    assert after.endswith(b"</r:RDF>\n</x:xmpmeta>\n")
    again = with_description(after, "something else")
    assert descriptions(again) == {"x-default": "something else", **others}
    abouts = {element.get(f"{RDF}about") for element in ElementTree.fromstring(after).iter(f"{RDF}Description")}
    assert abouts == {"uuid:1"}


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"hello",
        b"<a/>",
        SIDECAR.encode()[:-40],
        b'<!DOCTYPE a [<!ENTITY b "c">]>' + (SIDECAR % "").encode().partition(b"?>")[2],
        (SIDECAR % (ALT % GERMAN + ALT % GERMAN)).encode(),
        SIDECAR.replace("xmp:Rating", 'xmlns:d="http://purl.org/dc/elements/1.1/" d:description').encode(),
        (SIDECAR % "").replace("UTF-8", "UTF-16").encode("utf-16"),
        b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/>',
    ],
)
def test_what_is_no_xmp_is_left_alone(packet: bytes) -> None:
    with pytest.raises(NotXmp):
        with_description(packet, "a dog")


@pytest.mark.parametrize("text", TEXTS)
def test_a_caption_is_written_without_touching_a_pixel(text: str) -> None:
    exif = Image.Exif()
    exif[0x0131] = "camera"
    before = jpeg(exif=exif, comment=b"hello", dpi=(72, 72), progressive=True)
    after = with_caption(before, text)
    assert caption_read_by_pillow(after) == caption_in(after) == text
    assert split(after)[1] == split(before)[1]
    assert [one for one in split(after)[0] if one.marker != APP13] == split(before)[0]
    with Image.open(io.BytesIO(after)) as image:
        assert image.getexif()[0x0131] == "camera"
    assert with_caption(after, text) == after
    assert caption_read_by_pillow(with_caption(after, "another")) == "another"


def photoshop(*resources: bytes) -> Segment:
    return Segment(APP13, b"Photoshop 3.0\0" + b"".join(resources))


def resource(number: int, data: bytes, name: bytes = b"\0\0") -> bytes:
    padding = b"\0" * (len(data) % 2)
    return b"8BIM" + number.to_bytes(2, "big") + name + len(data).to_bytes(4, "big") + data + padding


def dataset(record: int, number: int, value: bytes) -> bytes:
    return bytes((0x1C, record, number)) + len(value).to_bytes(2, "big") + value


def with_segments(*added: Segment) -> bytes:
    before, rest = split(jpeg())
    return join(before, [*before[:1], *added, *before[1:]], rest)


def test_other_things_in_the_photoshop_block_stay() -> None:
    iptc = dataset(2, 0, b"\0\4") + dataset(2, 25, b"hat") + dataset(2, 120, b"old") + dataset(2, 25, b"cat")
    path, digest = resource(0x07D0, b"odd", b"\4name\0"), resource(0x0425, b"x" * 16)
    thumbnail = resource(0x040C, b"t" * 70_000)  # reaches over two segments
    block = path + resource(0x0404, iptc) + digest + thumbnail
    after = with_caption(with_segments(photoshop(block[:60_000]), photoshop(block[60_000:])), "new")
    blocks = [one.data.removeprefix(b"Photoshop 3.0\0") for one in split(after)[0] if one.marker == APP13]
    assert len(blocks) == 2
    whole = b"".join(blocks)
    assert whole.startswith(path)
    assert whole.endswith(thumbnail)
    assert b"x" * 16 not in whole  # the digest is that of the new block
    with Image.open(io.BytesIO(after)) as image:
        assert IptcImagePlugin.getiptcinfo(image) == {
            (2, 0): b"\0\4",
            (2, 25): [b"hat", b"cat"],
            (2, 120): b"new",
        }


def test_text_that_says_no_encoding_gets_none_unless_all_can_have_it() -> None:
    latin = with_segments(photoshop(resource(0x0404, dataset(2, 90, "Köln".encode("latin-1")))))
    assert "Köln".encode("latin-1") in with_caption(latin, "a dog")
    with pytest.raises(DamagedJpeg, match="encoding"):
        with_caption(latin, "größe")
    plain = with_segments(photoshop(resource(0x0404, dataset(2, 90, b"Bonn"))))
    assert dataset(1, 90, b"\x1b%G") in with_caption(plain, "größe")
    assert dataset(1, 90, b"\x1b%G") not in with_caption(plain, "a dog")


def test_xmp_in_the_file_says_the_same() -> None:
    packet = (SIDECAR % (ALT % GERMAN)).encode()
    before = with_segments(Segment(APP1, XMP + packet))
    assert caption_in(before) == "ein Hund"
    after = with_caption(before, "a dog")
    (segment,) = (one for one in split(after)[0] if one.marker == APP1)
    assert descriptions(segment.data.removeprefix(XMP)) == {"x-default": "a dog", "de": "ein Hund"}
    with Image.open(io.BytesIO(after)) as image:
        assert b"a dog" in image.info["xmp"]
    full = with_segments(Segment(APP1, XMP + packet + b" " * (65_533 - len(XMP + packet))))
    with pytest.raises(DamagedJpeg, match="so long"):
        with_caption(full, "a dog")


def test_further_pictures_in_the_file_are_found_where_they_have_moved() -> None:
    file = io.BytesIO()
    first, *others = (Image.new("RGB", (40, 30), colour) for colour in ("red", "green", "blue"))
    first.save(file, "MPO", save_all=True, append_images=others)
    before = file.getvalue()
    after = with_caption(with_caption(before, "a long caption " * 20), "a short one")
    with Image.open(io.BytesIO(before)) as was, Image.open(io.BytesIO(after)) as now:
        assert now.n_frames == was.n_frames == 3
        for frame in range(3):
            was.seek(frame)
            now.seek(frame)
            assert now.tobytes() == was.tobytes()
        sizes = [opened.mpinfo[0xB002][0]["Size"] for opened in (was, now)]
    assert sizes[1] - sizes[0] == len(after) - len(before) > 0


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", jpeg()[:10], jpeg()[:200], b"\xff\xd8\xff\xd9", with_segments(photoshop(b"nonsense"))],
)
def test_damaged_files_are_left_alone(data: bytes) -> None:
    with pytest.raises(DamagedJpeg):
        with_caption(data, "a dog")
    for end in range(0, len(jpeg()), 7):
        try:
            with_caption(jpeg()[:end], "a dog")
        except DamagedJpeg:
            continue


def captioned(path: Path, text: str = "a dog runs") -> Captioned:
    caption = Caption(text=text, logprob=-1.0, confidence=None, confident=None, words=[])
    return Captioned(path, [caption], ModelInfo(name="tiny", version="1"), ImageSize(width=64, height=48))


def test_sidecars_are_where_photo_libraries_look(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("one.jpg", "two.jpg", "pair.jpg", "pair.png")]
    (tmp_path / "two.jpg.xmp").write_text(SIDECAR % "")
    writer = Sidecars(paths, overwrite=False)
    for path in paths:
        assert writer.write(captioned(path)) is None
    names = {"one.xmp", "two.jpg.xmp", "pair.jpg.xmp", "pair.png.xmp"}
    assert {path.name for path in tmp_path.iterdir()} == names
    for name in names:
        assert descriptions((tmp_path / name).read_bytes()) == {"x-default": "a dog runs"}


def test_what_somebody_wrote_stays_unless_it_may_go(tmp_path: Path) -> None:
    photo, sidecar = tmp_path / "one.jpg", tmp_path / "one.xmp"
    photo.write_bytes(with_caption(jpeg(), "my dog"))
    sidecar.write_text(SIDECAR % (ALT % GERMAN))
    before = sidecar.read_bytes(), photo.read_bytes()
    copies = tmp_path / "copies"
    for writer in (Sidecars([photo], overwrite=False), Captions([photo], None, overwrite=False)):
        assert "stays" in (writer.write(captioned(photo)) or "")
    assert "stays" in (Captions([photo], copies, overwrite=False).write(captioned(photo)) or "")
    assert (sidecar.read_bytes(), photo.read_bytes()) == before
    assert (copies / "one.jpg").read_bytes() == before[1]
    for writer in (Sidecars([photo], overwrite=True), Captions([photo], None, overwrite=True)):
        assert writer.write(captioned(photo)) is None
    assert descriptions(sidecar.read_bytes()) == {"x-default": "a dog runs", "de": "ein Hund"}
    assert caption_read_by_pillow(photo.read_bytes()) == "a dog runs"
    sidecar.write_text("hello")
    with pytest.raises(NotWritten, match=r"one\.xmp: this is no XMP"):
        Sidecars([photo], overwrite=True).write(captioned(photo))
    assert sidecar.read_text() == "hello"


def test_copies_lie_as_the_photographs_do_and_those_stay(tmp_path: Path) -> None:
    paths = [tmp_path / "in" / name for name in ("a/x.jpg", "b/x.jpg", "b/y.png")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg() if path.suffix == ".jpg" else b"\x89PNG")
        path.chmod(0o640)
    writer = Captions(paths, tmp_path / "out", overwrite=False)
    assert [writer.write(captioned(path, path.parent.name)) for path in paths[:2]] == [None, None]
    assert "no JPEG" in (writer.write(captioned(paths[2])) or "")
    assert caption_in((tmp_path / "out/a/x.jpg").read_bytes()) == "a"
    assert caption_in((tmp_path / "out/b/x.jpg").read_bytes()) == "b"
    assert [path.read_bytes() for path in paths[:2]] == [jpeg()] * 2
    Captions(paths, None, overwrite=False).write(captioned(paths[0]))
    assert caption_in(paths[0].read_bytes()) == "a dog runs"
    assert paths[0].stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in paths[0].parent.iterdir()) == ["x.jpg"]


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="no exiftool (Debian: libimage-exiftool-perl)")
def test_exiftool_reads_what_was_written_and_finds_no_fault(tmp_path: Path) -> None:
    photo, sidecar = tmp_path / "photo.jpg", tmp_path / "photo.xmp"
    packet = with_description(None, "old")
    photo.write_bytes(with_caption(with_segments(Segment(APP1, XMP + packet)), "größe"))
    sidecar.write_bytes(with_description((SIDECAR % (ALT % GERMAN)).encode(), "größe"))
    done = subprocess.run(
        ["exiftool", "-json", "-G", "-a", "-validate", "-warning", "-all", photo, sidecar],
        capture_output=True,
        text=True,
        check=True,
    )
    picture, beside = json.loads(done.stdout)
    assert picture["IPTC:Caption-Abstract"] == picture["XMP:Description"] == beside["XMP:Description"] == "größe"
    assert picture["ExifTool:Validate"] == "OK"
    assert beside["XMP:Rating"] == 4
