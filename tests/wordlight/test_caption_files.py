"""Files of captions hold whole records only, and later runs continue them."""

import csv
import json
import os
import resource
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest

from jobs.job import Caption, ImageSize, ModelInfo, Word, WordMap
from wordlight.library.caption_files import FORMATS, CaptionFile, Csv, FileRefused, format_of
from wordlight.library.outcome import Captioned
from wordlight.library.photographs import photographs

NAMES = [
    "plain.jpg",
    'a "quoted", one.jpg',
    "two\nlines.jpg",
    "<b>&amp;.jpg",
    "größe.png",
    os.fsdecode(b"\xff\xfe.jpg"),
]
EVERY_FORMAT = pytest.mark.parametrize("suffix", sorted(FORMATS))


def captioned(path: Path) -> Captioned:
    word = Word(text="dog", logprob=-1.5, visual_grounding=0.5, heatmap=WordMap(rows=1, cols=2, weights=[0.5, 0.5]))
    caption = Caption(text='a "dog" & a <cat>', logprob=-2.5, confidence=0.25, confident=False, words=[word])
    return Captioned(path, [caption], ModelInfo(name="tiny", version="1"), ImageSize(width=40, height=30))


def open_file(path: Path) -> CaptionFile:
    return CaptionFile(path, format_of(path))


def write(path: Path, photos: list[Path]) -> bytes:
    with open_file(path) as output:
        for photo in photos:
            if not output.has(photo):
                output.add(captioned(photo))
    return path.read_bytes()


@EVERY_FORMAT
def test_the_next_run_repairs_a_file_that_a_crash_cut_off(suffix: str, tmp_path: Path) -> None:
    photos = [tmp_path / name for name in NAMES]
    whole = write(tmp_path / f"whole{suffix}", photos)
    cut = tmp_path / f"cut{suffix}"
    for end in range(0, len(whole), 3):
        cut.write_bytes(whole[:end])
        assert write(cut, photos) == whole, end


@EVERY_FORMAT
def test_existing_records_stay(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / f"file{suffix}"
    before = write(file, [tmp_path / name for name in NAMES])
    monkeypatch.chdir(tmp_path)
    with open_file(file) as output:
        assert all(output.has(Path(name)) for name in NAMES)  # other spellings of the same paths
        assert not output.has(Path("other.jpg"))
    assert write(file, [tmp_path / "other.jpg"]).startswith(before)


@EVERY_FORMAT
@pytest.mark.parametrize(
    "content", [b"hello", b"hello\n", b'{"path": 1}\n', b'"', b"path,caption\r\n", b"<!doctype html>\n"]
)
def test_other_files_are_left_alone(suffix: str, content: bytes, tmp_path: Path) -> None:
    file = tmp_path / f"file{suffix}"
    file.write_bytes(content)
    with pytest.raises(FileRefused, match="something else"):
        open_file(file)
    assert file.read_bytes() == content


@EVERY_FORMAT
@pytest.mark.parametrize(
    "damage", [lambda whole: whole + b"x\n" + whole[-200:], lambda whole: whole + b'"a"b,1\n' + whole[-200:]]
)
def test_damage_in_the_middle_does_not_delete_the_rest(
    suffix: str, damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    file = tmp_path / f"file{suffix}"
    damaged = damage(write(file, [tmp_path / "a.jpg", tmp_path / "b.jpg"]))
    file.write_bytes(damaged)
    with pytest.raises(FileRefused, match="something else"):
        open_file(file)
    assert file.read_bytes() == damaged


def test_two_commands_cannot_write_to_one_file(tmp_path: Path) -> None:
    with open_file(tmp_path / "a.jsonl"), pytest.raises(FileRefused, match="another command"):
        open_file(tmp_path / "a.jsonl")
    with open_file(tmp_path / "a.jsonl"):
        pass


@EVERY_FORMAT
def test_a_full_disk_leaves_no_half_record(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"file{suffix}"
    before = write(file, [tmp_path / "a.jpg"])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_file(file) as output:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, hard))  # a limit for the file's size
        try:
            with pytest.raises(FileRefused, match="too large"):
                output.add(captioned(tmp_path / "b.jpg"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.read_bytes() == before


def test_the_suffix_selects_the_format(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match=r"must end in \.jsonl, \.csv or \.html"):
        format_of(tmp_path / "captions.txt")
    with pytest.raises(FileRefused, match="No such file"):
        open_file(tmp_path / "missing" / "a.csv")
    with pytest.raises(FileRefused, match="not a regular file"):
        CaptionFile(Path("/dev/full"), Csv())


def test_json_lines_hold_all_fields(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [tmp_path / name for name in NAMES])
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == [str(tmp_path / name) for name in NAMES]
    assert lines[0] == captioned(tmp_path / NAMES[0]).as_dict()
    assert lines[0]["captions"][0]["words"][0]["heatmap"]["weights"] == [0.5, 0.5]


def test_csv_can_be_read(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", [tmp_path / name for name in NAMES])
    with (tmp_path / "a.csv").open(newline="", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [str(tmp_path / name) for name in NAMES]
    assert {**rows[0], "path": ""} == {
        "path": "",
        "caption": 'a "dog" & a <cat>',
        "confidence": "0.25",
        "confident": "no",
        "logprob": "-2.5",
        "width": "40",
        "height": "30",
    }


def test_a_page_shows_each_picture_with_its_caption_as_alt_text(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    page = tmp_path / "pages" / "a.html"
    write(page, [tmp_path / name for name in NAMES])
    images: list[dict[str, str | None]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "img":
                images.append(dict(attrs))

    Reader().feed(page.read_text(errors="surrogateescape"))
    assert {image["alt"] for image in images} == {'a "dog" & a <cat>'}
    found = [
        os.path.normpath(os.fsencode(page.parent) + b"/" + unquote_to_bytes(image["src"] or "")) for image in images
    ]
    assert found == [os.fsencode(tmp_path / name) for name in NAMES]


def test_folders_are_walked_in_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "c/d.webp", ".thumbnails/e.jpg", "a/z.tiff"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "c" / "circle").symlink_to(tmp_path)
    found = photographs([tmp_path / "c" / "d.webp", tmp_path, tmp_path / "notes.txt"], recursive=True)
    names = [str(path.relative_to(tmp_path)) for path in found]
    assert names == ["c/d.webp", "a.PNG", "b.jpg", "a/z.tiff", "notes.txt"]
    assert photographs([tmp_path], recursive=False) == [tmp_path]
