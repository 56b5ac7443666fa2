"""`wordlight dataset` converts COCO, Flickr8k, Karpathy's splits and own lists to data folders."""

import json
import zipfile
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest
from PIL import Image
from support import tiny
from support.in_process import Run

from model.training.data_folder import PictureUnusable, Written, write_data_folder
from model.training.dataset import DatasetUnusable, load_split
from model.training.published import Listed, PictureFiles, read_coco, read_flickr8k, read_karpathy, read_list

PAIRS = list(permutations(tiny.COLOURS, 2))
SIDE = 96


def name_of(split: str, top: str, bottom: str) -> str:
    return f"{split}-{top}-{bottom}.png"


def write_pictures(folder: Path, split: str, size: tuple[int, int] = (120, 90)) -> list[str]:
    """Write a picture of each pair of colours and return their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [name_of(split, *pair) for pair in PAIRS]
    for name, pair in zip(names, PAIRS, strict=True):
        tiny.picture(*pair, size=size).save(folder / name)
    return names


def caption_of(name: str) -> str:
    _, top, bottom = Path(name).stem.split("-")
    return f"A {top} over a {bottom} ."


def packed(folder: Path) -> None:
    """Replace the folder by a ZIP archive of it."""
    with zipfile.ZipFile(f"{folder}.zip", "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"{folder.name}/{path.name}")
            path.unlink()
    folder.rmdir()


def write_coco(folder: Path, year: int) -> None:
    (folder / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        names = write_pictures(folder / f"{split}{year}", split)
        document = {
            "info": {"year": year},
            "images": [{"id": number, "file_name": name, "height": 90} for number, name in enumerate(names)],
            # Not grouped by image, and one with a line break, as in the real file.
            "annotations": [
                {"id": 7, "image_id": number, "caption": f"{text}\n"}
                for text_of in (caption_of, lambda name: caption_of(name).replace("A ", "One "))
                for number, name in enumerate(names)
                for text in [text_of(name)]
            ],
        }
        (folder / f"annotations/captions_{split}{year}.json").write_text(json.dumps(document))


def write_flickr8k(folder: Path) -> None:
    text = folder / "Flickr8k_text"
    text.mkdir(parents=True)
    lines = ["lost.jpg.1#0\tA picture that is in no split ."]
    for split, file in (("train", "train"), ("val", "dev"), ("test", "test")):
        names = write_pictures(folder / "Flicker8k_Dataset", split)
        (text / f"Flickr_8k.{file}Images.txt").write_text("\n".join(names) + "\n")
        lines += [f"{name}#{number}\t{caption_of(name)}" for name in names for number in range(5)]
    (text / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    for file in ("ExpertAnnotations.txt", "CrowdFlowerAnnotations.txt"):
        (text / file).write_text(f"{name_of('test', *PAIRS[0])}\t{name_of('test', *PAIRS[1])}#1\t1\t1\t2\n")


def splits_of(folder: Path) -> dict[str, set[str]]:
    return {split: {sample.name for sample in load_split(folder, split)} for split in ("train", "val", "test")}


def test_coco_becomes_a_data_folder_for_training(tmp_path: Path, run: Run) -> None:
    write_coco(tmp_path / "coco", 2017)
    packed(tmp_path / "coco/train2017")
    done = run("dataset", "coco", tmp_path / "coco", "-o", tmp_path / "data", "--side", str(SIDE))
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["train"] == len(PAIRS)
    assert counts["val"] + counts["test"] == len(PAIRS)
    assert counts["left_out"] == 0
    sample = load_split(tmp_path / "data", "train")[0]
    assert sample.captions == [caption_of(sample.name), caption_of(sample.name).replace("A ", "One ")]
    assert sample.image().size == (SIDE, SIDE)
    top, bottom = (sample.image().getpixel((SIDE // 2, y)) for y in (8, SIDE - 8))
    for found, colour in ((top, sample.name.split("-")[1]), (bottom, Path(sample.name).stem.split("-")[2])):
        assert isinstance(found, tuple)
        assert max(abs(a - b) for a, b in zip(found, tiny.COLOURS[colour], strict=True)) < 12
    best = tiny.train_captioner(
        tmp_path / "data", tmp_path / "run", tiny.RECIPE.model_copy(update={"epochs": 1, "patience": 1})
    )
    assert (best / "config.json").is_file()


def test_categories_of_coco_are_the_labels_of_its_pictures(tmp_path: Path, run: Run) -> None:
    write_coco(tmp_path / "coco", 2017)
    instances = {
        "categories": [{"id": 3, "name": "traffic light"}, {"id": 5, "name": "dog"}],
        "annotations": [{"image_id": 0, "category_id": category} for category in (3, 5, 3)],
    }
    (tmp_path / "coco/annotations/instances_train2017.json").write_text(json.dumps(instances))
    done = run("dataset", "coco", tmp_path / "coco", "-o", tmp_path / "data", "--side", str(SIDE))
    assert done.returncode == 0, done.stderr
    first, second, *_ = load_split(tmp_path / "data", "train")
    assert first.labels == ["dog", "traffic light"]
    assert second.labels == [], "labelled, and nothing found"
    assert load_split(tmp_path / "data", "val")[0].labels is None
    (tmp_path / "coco/annotations/instances_train2017.json").write_text("{}")
    with pytest.raises(DatasetUnusable, match=r"instances_train2017\.json is not a file of COCO's boxes"):
        read_coco(tmp_path / "coco", 2017)


def test_flickr8k_keeps_its_splits_and_judgements(tmp_path: Path, run: Run) -> None:
    write_flickr8k(tmp_path / "published")
    done = run("dataset", "flickr8k", tmp_path / "published", "-o", tmp_path / "data/flickr8k")
    assert done.returncode == 0, done.stderr
    assert splits_of(tmp_path / "data") == {
        split: {name_of(split, *pair) for pair in PAIRS} for split in ("train", "val", "test")
    }
    assert [len(sample.captions) for sample in load_split(tmp_path / "data", "val")] == [5] * len(PAIRS)
    assert load_split(tmp_path / "data", "val")[0].image().size == (224, 224)
    for file in ("expert-annotations.txt", "crowdflower-annotations.txt"):
        assert (tmp_path / "data/flickr8k" / file).read_text().count("\t") == 4


@pytest.mark.parametrize("filepath", ["", "val2014"])
def test_karpathys_restval_becomes_train(tmp_path: Path, filepath: str) -> None:
    images = []
    for split in ("train", "restval", "val", "test"):
        names = write_pictures(tmp_path / "images" / filepath, split)
        place = {"filepath": filepath} if filepath else {}
        images += [
            {"filename": name, "split": split, "sentences": [{"raw": caption_of(name), "tokens": []}], **place}
            for name in names
        ]
    (tmp_path / "dataset.json").write_text(json.dumps({"images": images, "dataset": "flickr8k"}))
    written = import_all(read_karpathy(tmp_path / "dataset.json"), tmp_path / "images", tmp_path / "data")
    assert written.pictures == {"train": 2 * len(PAIRS), "val": len(PAIRS), "test": len(PAIRS)}
    assert {name_of("restval", *pair) for pair in PAIRS} < splits_of(tmp_path / "data")["train"]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_list_of_pictures_and_captions(tmp_path: Path, run: Run, kind: str) -> None:
    names = write_pictures(tmp_path / "photos/holidays", "mine")
    rows = [(f"holidays/{name}", caption_of(name)) for name in names for _ in range(2)]
    path = tmp_path / "photos" / f"captions.{kind}"
    if kind == "csv":  # as a spreadsheet writes it: with a byte order mark, and quotes around commas
        lines = ["file,caption", "", *(f'{file},"{caption[:-2]},\nagain"' for file, caption in rows)]
        path.write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps({"file": file, "captions": [text]}) + "\n" for file, text in rows))
    done = run("dataset", "list", path, "-o", tmp_path / "data", "--side", "64")
    assert done.returncode == 0, done.stderr
    found = {
        sample.name: sample.captions for split in ("train", "val") for sample in load_split(tmp_path / "data", split)
    }
    assert set(found) <= set(names)
    assert all(len(captions) == 2 for captions in found.values())
    assert all(caption.endswith(", again") is (kind == "csv") for captions in found.values() for caption in captions)


def test_splits_of_a_list_stay_when_pictures_are_added(tmp_path: Path) -> None:
    def listed(count: int) -> dict[str, str]:
        path = tmp_path / "list.jsonl"
        path.write_text("".join(json.dumps({"file": f"{n}.jpg", "caption": "a"}) + "\n" for n in range(count)))
        return {one.file: one.split for one in read_list(path)}

    few, many = listed(500), listed(1000)
    assert few.items() <= many.items()
    shares = {split: sum(found == split for found in many.values()) / 1000 for split in ("train", "val", "test")}
    assert shares["train"] == pytest.approx(0.8, abs=0.05)
    assert shares["val"] == pytest.approx(0.1, abs=0.03)


def import_all(
    listed: list[Listed],
    images: Path,
    folder: Path,
    stored: Callable[[bytes], bytes] = lambda data: data,
    progress: list[tuple[int, int]] | None = None,
    complaints: list[tuple[str, str]] | None = None,
) -> Written:
    with PictureFiles(images) as files:
        return write_data_folder(
            listed,
            {"": files},
            folder,
            side=64,
            stored=stored,
            pictures_a_file=5,
            tell=lambda done, total: (progress if progress is not None else []).append((done, total)),
            complain=lambda file, why: (complaints if complaints is not None else []).append((file, why)),
        )


def listing(images: Path) -> list[Listed]:
    """Twelve pictures for training and twelve others, in an archive."""
    listed = [
        Listed("", name, split, [caption_of(name)])
        for split in ("train", "val")
        for name in write_pictures(images, split, (16, 12))
    ]
    packed(images)
    return listed


def test_an_interrupted_conversion_resumes_with_the_same_result(tmp_path: Path) -> None:
    listed = listing(tmp_path / "images")
    archive = tmp_path / "images.zip"
    whole = import_all(listed, archive, tmp_path / "whole")
    seen: list[bytes] = []

    def stops(data: bytes) -> bytes:
        seen.append(data)
        if len(seen) == 13:
            raise KeyboardInterrupt
        return data

    with pytest.raises(KeyboardInterrupt):
        import_all(listed, archive, tmp_path / "data", stops)
    assert not (tmp_path / "data/captions.json").exists()
    again: list[bytes] = []
    progress: list[tuple[int, int]] = []
    assert import_all(listed, archive, tmp_path / "data", lambda data: again.append(data) or data, progress) == whole  # type: ignore[func-returns-value]
    assert len(again) == len(listed) - 10  # two files of five were complete
    assert progress == [(5, 24), (10, 24), (15, 24), (20, 24), (24, 24)]
    files = {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    again.clear()
    assert import_all(listed, archive, tmp_path / "data", lambda data: again.append(data) or data) == whole  # type: ignore[func-returns-value]
    assert not again


def test_bad_pictures_are_left_out_and_reported(tmp_path: Path, run: Run) -> None:
    names = write_pictures(tmp_path / "photos", "mine")
    (tmp_path / "photos" / names[0]).write_bytes(b"hello")
    (tmp_path / "photos" / names[1]).unlink()
    Image.open(tmp_path / "photos" / names[2]).rotate(90, expand=True).save(tmp_path / "photos" / names[2])
    rows = [
        {"file": name, "caption": caption_of(name), "split": "val" if n > 8 else "train"}
        for n, name in enumerate(names)
    ]
    (tmp_path / "photos/list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run("dataset", "list", tmp_path / "photos/list.jsonl", "-o", tmp_path / "data")
    assert done.returncode == 1
    assert json.loads(done.stdout) == {
        "folder": str(tmp_path / "data"), "train": 7, "val": 3, "test": 0, "left_out": 2,
    }  # fmt: skip
    first, second, *rest = done.stderr.splitlines()
    assert first.startswith(f"{names[0]}: ")
    assert second == f"{names[1]}: No such file or directory"
    assert rest == ["12 of 12 pictures"]
    assert not {names[0], names[1]} & {sample.name for sample in load_split(tmp_path / "data", "train")}


def test_a_data_set_without_good_pictures_is_an_error(tmp_path: Path) -> None:
    def refuses(_data: bytes) -> bytes:
        raise PictureUnusable("no")

    listed, complaints = listing(tmp_path / "images"), list[tuple[str, str]]()
    with pytest.raises(DatasetUnusable, match="no picture of train could be read"):
        import_all(listed, tmp_path / "images.zip", tmp_path / "data", refuses, complaints=complaints)
    assert complaints == [(one.file, "no") for one in listed]
    assert not (tmp_path / "data/captions.json").exists()


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    listed, archive = listing(tmp_path / "images"), tmp_path / "images.zip"
    import_all(listed, archive, tmp_path / "data")
    with pytest.raises(DatasetUnusable, match="an import of something else"):
        import_all(listed[1:], archive, tmp_path / "data")
    (tmp_path / "hers").mkdir()
    (tmp_path / "hers/captions.json").write_text("{}")
    with pytest.raises(DatasetUnusable, match="holds another data set"):
        import_all(listed, archive, tmp_path / "hers")
    assert [path.name for path in (tmp_path / "hers").iterdir()] == ["captions.json"]
    (tmp_path / "tars").mkdir()
    (tmp_path / "tars/images-00000.tar").write_bytes(b"")
    with pytest.raises(DatasetUnusable, match="holds other archives"):
        import_all(listed, archive, tmp_path / "tars")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no column caption or file"),
        ("file,text\na.jpg,hello\n", "no column caption"),
        ("file,caption\n,hello\n", "line 2: no file"),
        ("file,caption\na.jpg,\n", "line 2: no caption of a.jpg"),
        ("file,caption,split\na.jpg,b,dev\n", "line 2: the split is 'dev'"),
        ("file,caption,split\na.jpg,b,val\na.jpg,c,test\n", "line 3: a.jpg is in val already"),
        ('{"file": "a.jpg"', "line 1: not JSON"),
        ("[1]", "line 1: not an object"),
        ('{"file": "a.jpg", "captions": []}', "line 1: no caption of a.jpg"),
        ('{"file": "a.jpg", "captions": "text"}', "line 1: no caption of a.jpg"),
        ('{"file": 1, "caption": "text"}', "line 1: no file"),
    ],
)
def test_an_invalid_list_is_reported_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / ("list.jsonl" if content[:1] in ("{", "[") else "list.csv")
    path.write_text(content)
    with pytest.raises(DatasetUnusable, match=message):
        read_list(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([("../a.png", "train")], "not the name of a file"),
        ([("/etc/a.png", "train")], "not the name of a file"),
        ([("a.png", "dev")], "in the split 'dev'"),
        ([("a.png", "train"), ("b.png", "test")], "no picture is in val"),
        ([("a.png", "train"), ("a.png", "val")], "a.png is listed twice"),
        ([], "no pictures in the list"),
    ],
)
def test_an_invalid_plan_writes_nothing(tmp_path: Path, changes: list[tuple[str, str]], message: str) -> None:
    write_pictures(tmp_path / "images", "some", (16, 12))
    listed = [Listed("", file, split, ["a"]) for file, split in changes]
    with pytest.raises(DatasetUnusable, match=message):
        import_all(listed, tmp_path / "images", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_files_with_equal_names_keep_their_folders(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        write_pictures(tmp_path / "images" / folder, "some", (16, 12))
    name = name_of("some", *PAIRS[0])
    listed = [Listed("", f"first/{name}", "train", ["a"]), Listed("", f"second/{name}", "val", ["b"])]
    import_all(listed, tmp_path / "images", tmp_path / "data")
    assert [sample.name for sample in load_split(tmp_path / "data", "val")] == [f"second/{name}"]


def test_missing_or_wrong_published_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetUnusable, match=r"captions_train2017\.json: No such file"):
        read_coco(tmp_path, 2017)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/captions_train2017.json").write_text('{"images": [{"id": 1}], "annotations": []}')
    with pytest.raises(DatasetUnusable, match="is not a file of COCO's captions"):
        read_coco(tmp_path, 2017)
    with pytest.raises(DatasetUnusable, match=r"Flickr8k\.token\.txt: No such file"):
        read_flickr8k(tmp_path)
    (tmp_path / "Flickr8k.token.txt").write_text("a.jpg A dog .\n")
    with pytest.raises(DatasetUnusable, match="line 1: no file#number"):
        read_flickr8k(tmp_path)
    (tmp_path / "Flickr8k.token.txt").write_text("a.jpg#0\tA dog .\n")
    for kind in ("train", "dev", "test"):
        (tmp_path / f"Flickr_8k.{kind}Images.txt").write_text("b.jpg\n")
    with pytest.raises(DatasetUnusable, match=r"has no captions of b\.jpg"):
        read_flickr8k(tmp_path)
    (tmp_path / "dataset.json").write_text('{"images": 3}')
    with pytest.raises(DatasetUnusable, match=r"is not one of Karpathy's files"):
        read_karpathy(tmp_path / "dataset.json")
    with pytest.raises(DatasetUnusable, match=r"no pictures: .*nowhere"):
        PictureFiles(tmp_path / "nowhere")
    with pytest.raises(DatasetUnusable, match="neither a folder nor a ZIP"):
        PictureFiles(tmp_path / "dataset.json")


def test_a_damaged_archive_loses_the_damaged_pictures_only(tmp_path: Path) -> None:
    listed, path = listing(tmp_path / "images"), tmp_path / "images.zip"
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo(f"images/{listed[3].file}").header_offset
    data = bytearray(path.read_bytes())
    data[place + 60 : place + 90] = bytes(30)
    path.write_bytes(data)
    complaints: list[tuple[str, str]] = []
    written = import_all(listed, path, tmp_path / "data", complaints=complaints)
    assert written.left_out == 1
    assert [file for file, _ in complaints] == [listed[3].file]
