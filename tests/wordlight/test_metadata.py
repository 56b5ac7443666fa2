"""Captions in sidecars and photographs, read by other programs: Pillow, an XML parser and ExifTool itself."""

import io
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image, IptcImagePlugin

from jobs.job import Caption, ImageSize, ModelInfo
from wordlight.library.metadata import ExifTool, PhotographWriter, SidecarWriter
from wordlight.library.outcome import CannotContinue, Captioned
from wordlight.library.report import NotWritten

TEXTS = ["a dog runs", 'a <cat> & a "dog"', "größe 犬", "two\nlines \\n"]
DC = "{http://purl.org/dc/elements/1.1/}"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
LANG = "{http://www.w3.org/XML/1998/namespace}lang"

# As darktable writes one: other prefixes, history, ratings.
SIDECAR = """<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <r:Description r:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4"
    xmlns:darktable="http://darktable.sf.net/" darktable:history_end="3">
   <darktable:history><r:Seq><r:li darktable:num="0" darktable:operation="sharpen"/></r:Seq></darktable:history>%s
  </r:Description>
 </r:RDF>
</x:xmpmeta>
"""
ALT = '<d:description xmlns:d="http://purl.org/dc/elements/1.1/"><r:Alt>%s</r:Alt></d:description>'
GERMAN = '<r:li xml:lang="de">ein Hund</r:li>'
WRITABLE = ["a.jpg", "a.png", "a.tif", "a.webp", "a.gif", "a.avif"]


@pytest.fixture(scope="module")
def tool(exiftool: str) -> Iterator[ExifTool]:  # noqa: ARG001
    with ExifTool() as tool:
        yield tool


def make(path: Path, **options: Any) -> Path:
    """Write a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.linear_gradient("L").convert("RGB").resize((64, 48)).save(path, **options)
    return path


def describe(path: Path, *tags: str) -> Path:
    """Write tags as another program of the user's would."""
    subprocess.run(["exiftool", "-q", "-overwrite_original", *(f"-{tag}" for tag in tags), path], check=True)
    return path


def tag(path: Path, name: str) -> str:
    """Read a tag, or "" if it is absent."""
    done = subprocess.run(["exiftool", "-s3", f"-{name}", path], capture_output=True, text=True, check=True)
    return done.stdout.removesuffix("\n")


def descriptions(sidecar: Path) -> dict[str | None, str | None]:
    """Read the descriptions by language with an XML parser."""
    root = ElementTree.fromstring(sidecar.read_bytes())
    return {item.get(LANG): item.text for item in root.findall(f".//{DC}description/{RDF}Alt/{RDF}li")}


def pixels(path: Path) -> bytes:
    with Image.open(path) as image:
        return image.tobytes()


def captioned(path: Path, text: str = "a dog runs") -> Captioned:
    caption = Caption(text=text, logprob=-1.0, confidence=None, confident=None, words=[])
    return Captioned(path, [caption], ModelInfo(name="tiny", version="1"), ImageSize(width=64, height=48))


def write_sidecar(tool: ExifTool, path: Path, text: str = "a dog runs", *, overwrite: bool = False) -> str | None:
    return SidecarWriter(tool, overwrite=overwrite).write(captioned(path, text))


def write_photograph(tool: ExifTool, path: Path, text: str = "a dog runs", *, overwrite: bool = False) -> str | None:
    return PhotographWriter(tool, [path], None, overwrite=overwrite).write(captioned(path, text))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("text", TEXTS)
def test_a_new_sidecar_has_one_description(tool: ExifTool, tmp_path: Path, text: str) -> None:
    photo = make(tmp_path / "a.jpg")
    assert write_sidecar(tool, photo, text) is None
    assert descriptions(tmp_path / "a.xmp") == {"x-default": text}
    before = (tmp_path / "a.xmp").stat()
    assert write_sidecar(tool, photo, text) is None
    assert (tmp_path / "a.xmp").stat() == before
    assert names(tmp_path) == {"a.jpg", "a.xmp"}


@pytest.mark.parametrize(
    ("present", "others"),
    [
        ("", {}),
        (ALT % GERMAN, {"de": "ein Hund"}),
        (ALT % ('<r:li xml:lang="x-default">old &amp; &lt;grey></r:li>' + GERMAN), {"de": "ein Hund"}),
        (ALT % '<r:li xml:lang="x-default"/>', {}),
        ('<d:description xmlns:d="http://purl.org/dc/elements/1.1/">old</d:description>', {}),
    ],
)
def test_only_the_description_of_a_sidecar_changes(
    tool: ExifTool, tmp_path: Path, present: str, others: dict[str, str]
) -> None:
    photo, sidecar = make(tmp_path / "a.jpg"), tmp_path / "a.xmp"
    sidecar.write_text(SIDECAR % present)
    sidecar.chmod(0o640)
    assert write_sidecar(tool, photo, overwrite=True) is None
    assert descriptions(sidecar) == {"x-default": "a dog runs", **others}
    assert tag(sidecar, "XMP:Rating") == "4"
    assert "sharpen" in sidecar.read_text()
    assert sidecar.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("content", [b"hello", b"<a/>", SIDECAR.encode()[:-40]])
def test_a_file_that_is_not_xmp_is_left_alone(tool: ExifTool, tmp_path: Path, content: bytes) -> None:
    photo, sidecar = make(tmp_path / "a.jpg"), tmp_path / "a.xmp"
    sidecar.write_bytes(content)
    with pytest.raises(NotWritten, match=r"a\.xmp: "):
        write_sidecar(tool, photo, overwrite=True)
    assert sidecar.read_bytes() == content
    assert names(tmp_path) == {"a.jpg", "a.xmp"}


def test_files_that_share_a_name_have_sidecars_of_their_own(tool: ExifTool, tmp_path: Path) -> None:
    for name in ("one.jpg", "two.jpg", "pair.jpg", "pair.png", "raw.jpg"):
        make(tmp_path / name)
    (tmp_path / "raw.CR2").write_bytes(b"")
    (tmp_path / "two.jpg.xmp").write_text(SIDECAR % "")
    for name in ("one.jpg", "two.jpg", "pair.jpg", "pair.png", "raw.jpg"):
        assert write_sidecar(tool, tmp_path / name) is None
    sidecars = {"one.xmp", "two.jpg.xmp", "pair.jpg.xmp", "pair.png.xmp", "raw.jpg.xmp"}
    assert {name for name in names(tmp_path) if name.endswith(".xmp")} == sidecars
    for name in sidecars:
        assert descriptions(tmp_path / name) == {"x-default": "a dog runs"}


@pytest.mark.parametrize("sidecar", ["a.xmp", "a.XMP", "a.jpg.xmp", "a.jpg.XMP"])
def test_a_description_in_any_sidecar_stays(tool: ExifTool, tmp_path: Path, sidecar: str) -> None:
    photo = make(tmp_path / "a.jpg")
    (tmp_path / sidecar).write_text(SIDECAR % (ALT % GERMAN))
    before = photo.read_bytes(), (tmp_path / sidecar).read_bytes()
    for write in (write_sidecar, write_photograph):
        assert write(tool, photo) == f"{sidecar} has another description, which stays (--overwrite replaces it)"
    assert (photo.read_bytes(), (tmp_path / sidecar).read_bytes()) == before
    assert names(tmp_path) == {"a.jpg", sidecar}
    assert write_sidecar(tool, photo, overwrite=True) is None
    assert names(tmp_path) == {"a.jpg", sidecar}
    assert descriptions(tmp_path / sidecar) == {"x-default": "a dog runs", "de": "ein Hund"}


def test_a_description_in_a_shared_sidecar_stays(tool: ExifTool, tmp_path: Path) -> None:
    photo, _ = make(tmp_path / "pair.jpg"), make(tmp_path / "pair.png")
    (tmp_path / "pair.xmp").write_text(SIDECAR % (ALT % GERMAN))
    assert "pair.xmp has another description" in (write_sidecar(tool, photo) or "")
    assert names(tmp_path) == {"pair.jpg", "pair.png", "pair.xmp"}
    write_sidecar(tool, photo, overwrite=True)
    assert descriptions(tmp_path / "pair.xmp") == {"de": "ein Hund"}
    assert descriptions(tmp_path / "pair.jpg.xmp") == {"x-default": "a dog runs"}


@pytest.mark.parametrize(
    "where", ["XMP-dc:Description", "XMP-dc:Description-de", "IPTC:Caption-Abstract", "EXIF:ImageDescription"]
)
def test_a_description_in_the_photograph_stays(tool: ExifTool, tmp_path: Path, where: str) -> None:
    photo = describe(make(tmp_path / "a.jpg"), f"{where}=Our cat Minka")
    before = photo.read_bytes()
    for write in (write_sidecar, write_photograph):
        assert write(tool, photo) == "it has another description, which stays (--overwrite replaces it)"
    copies = PhotographWriter(tool, [photo], tmp_path / "copies", overwrite=False)
    assert "stays" in (copies.write(captioned(photo)) or "")
    assert photo.read_bytes() == (tmp_path / "copies/a.jpg").read_bytes() == before
    assert names(tmp_path) == {"a.jpg", "copies"}
    assert write_photograph(tool, photo, overwrite=True) is None
    for name in ("XMP-dc:Description", "IPTC:Caption-Abstract"):
        assert tag(photo, name) == "a dog runs"
    if where == "EXIF:ImageDescription":
        assert tag(photo, where) == "a dog runs"
    if where == "XMP-dc:Description-de":
        assert tag(photo, where) == "Our cat Minka"


def test_blank_descriptions_of_cameras_do_not_count(tool: ExifTool, tmp_path: Path) -> None:
    photo = describe(make(tmp_path / "a.jpg"), "EXIF:ImageDescription=          ")
    assert write_photograph(tool, photo) is None
    assert tag(photo, "EXIF:ImageDescription") == tag(photo, "XMP-dc:Description") == "a dog runs"


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", WRITABLE)
def test_a_caption_is_written_without_touching_a_pixel(tool: ExifTool, tmp_path: Path, name: str, text: str) -> None:
    photo = make(tmp_path / name)
    before = pixels(photo)
    assert write_photograph(tool, photo, text) is None
    assert pixels(photo) == before
    assert tool.read(photo)["XMP-dc:Description"] == text
    written = photo.stat()
    assert write_photograph(tool, photo, text) is None
    assert photo.stat() == written
    assert names(tmp_path) == {name}


def test_pillow_and_exiftool_agree(tool: ExifTool, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0131] = "camera"
    photo = make(tmp_path / "a.jpg", exif=exif, comment=b"hello", dpi=(72, 72), progressive=True)
    complaints = tag(photo, "validate")
    write_photograph(tool, photo, "größe 犬")
    with Image.open(photo) as image:
        info = IptcImagePlugin.getiptcinfo(image)
        assert image.getexif()[0x0131] == "camera"
        assert image.info["comment"] == b"hello"
    assert info
    assert info[(2, 120)] == "größe 犬".encode()
    assert tag(photo, "validate") == complaints


@pytest.mark.parametrize("text", ["a dog", "größe 犬"])
def test_other_iptc_fields_keep_their_text(tool: ExifTool, tmp_path: Path, text: str) -> None:
    photo = describe(make(tmp_path / "a.jpg"), "IPTC:Keywords=hat", "IPTC:Keywords=cat", "IPTC:City=Koeln")
    # Latin-1 without a declaration, which is the default of IPTC.
    photo.write_bytes(photo.read_bytes().replace(b"Koeln", "Köl n".encode("latin-1")))
    write_photograph(tool, photo, text)
    assert tag(photo, "IPTC:City") == "Köl n"
    assert tag(photo, "IPTC:Keywords") == "hat, cat"
    assert tag(photo, "IPTC:Caption-Abstract") == text
    assert tag(photo, "Photoshop:IPTCDigest") == tag(photo, "File:CurrentIPTCDigest")


def test_further_pictures_in_a_file_stay_intact(tool: ExifTool, tmp_path: Path) -> None:
    photo = tmp_path / "a.jpg"
    first, *others = (Image.new("RGB", (40, 30), colour) for colour in ("red", "green", "blue"))
    first.save(photo, "MPO", save_all=True, append_images=others)
    before = io.BytesIO(photo.read_bytes())
    write_photograph(tool, photo, "a long caption " * 20)
    write_photograph(tool, photo, "a short one", overwrite=True)
    with Image.open(before) as was, Image.open(photo) as now:
        assert now.n_frames == was.n_frames == 3
        for frame in range(3):
            was.seek(frame)
            now.seek(frame)
            assert now.tobytes() == was.tobytes()


def test_times_modes_and_attributes_stay(tool: ExifTool, tmp_path: Path) -> None:
    photo = make(tmp_path / "a.jpg")
    photo.chmod(0o640)
    os.utime(photo, ns=(1304665689_123456789, 1304665689_123456789))
    with suppress(OSError):  # not every file system has them
        os.setxattr(photo, "user.tag", b"value")
    before, attributes = photo.stat(), os.listxattr(photo)
    PhotographWriter(tool, [photo], tmp_path / "copies", overwrite=False).write(captioned(photo))
    write_photograph(tool, photo)
    for path in (photo, tmp_path / "copies/a.jpg"):
        assert tag(path, "XMP-dc:Description") == "a dog runs"
        assert path.stat().st_mtime_ns == before.st_mtime_ns
        assert path.stat().st_mode == before.st_mode
        assert os.listxattr(path) == attributes


def test_hard_links_stay_together(tool: ExifTool, tmp_path: Path) -> None:
    photo, other = make(tmp_path / "a.jpg"), tmp_path / "b.jpg"
    other.hardlink_to(photo)
    before = photo.stat()
    assert write_photograph(tool, photo) is None
    assert tag(other, "XMP-dc:Description") == "a dog runs"
    assert (photo.stat().st_ino, photo.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert names(tmp_path) == {"a.jpg", "b.jpg"}


def test_a_link_is_followed(tool: ExifTool, tmp_path: Path) -> None:
    photo, link = make(tmp_path / "deep/a.jpg"), tmp_path / "a.jpg"
    link.symlink_to(photo)
    write_photograph(tool, link)
    assert link.is_symlink()
    assert tag(photo, "XMP-dc:Description") == "a dog runs"


def test_copies_keep_the_folders_of_the_photographs(tool: ExifTool, tmp_path: Path) -> None:
    paths = [make(tmp_path / "in" / name) for name in ("a/x.jpg", "b/x.jpg", "b/y.bmp")]
    before = [path.read_bytes() for path in paths]
    writer = PhotographWriter(tool, paths, tmp_path / "out", overwrite=False)
    assert [writer.write(captioned(path, path.parent.name)) for path in paths[:2]] == [None, None]
    assert writer.write(captioned(paths[2])) == "ExifTool cannot write BMP files"
    assert tag(tmp_path / "out/a/x.jpg", "XMP-dc:Description") == "a"
    assert tag(tmp_path / "out/b/x.jpg", "XMP-dc:Description") == "b"
    assert names(tmp_path / "out/b") == {"x.jpg"}
    assert [path.read_bytes() for path in paths] == before


def test_damaged_files_are_left_alone(tool: ExifTool, tmp_path: Path) -> None:
    whole = make(tmp_path / "whole.jpg").read_bytes()
    photo = tmp_path / "a.jpg"
    for content in (b"", b"hello", whole[:10], whole[:200], b"\xff\xd8\xff\xd9"):
        photo.write_bytes(content)
        with pytest.raises(NotWritten):
            write_photograph(tool, photo)
        assert photo.read_bytes() == content
    assert names(tmp_path) == {"a.jpg", "whole.jpg"}


@pytest.mark.parametrize(
    "name",
    [
        os.fsdecode(b"bad\xff\xfename.jpg"),
        "-overwrite.jpg",
        "#a.jpg",
        " a .jpg",
        "two\nlines.jpg",
        "%f\\n.jpg",
        "$a@b.jpg",
    ],
)
def test_every_file_name_works(tool: ExifTool, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photo = make(Path(name), format="JPEG")
    assert write_sidecar(tool, photo) is None
    assert write_photograph(tool, photo) is None
    assert tool.read(photo)["XMP-dc:Description"] == "a dog runs"
    assert names(tmp_path) == {name, name.removesuffix(".jpg") + ".xmp"}


def test_exiftool_ignores_ctrl_c(exiftool: str, tmp_path: Path) -> None:  # noqa: ARG001
    photo = make(tmp_path / "a.jpg")
    with ExifTool() as tool:
        os.kill(tool._process._process.pid, signal.SIGINT)
        assert write_photograph(tool, photo) is None
    assert tag(photo, "XMP-dc:Description") == "a dog runs"


def test_without_exiftool_nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CannotContinue, match=r"need ExifTool, which is not installed .*libimage-exiftool-perl"):
        ExifTool()
