"""Every EXIF orientation of a photograph gives the same captions and heatmaps."""

import io
from pathlib import Path

import pytest
from PIL import ExifTags, Image, features
from support import tiny

from app.images.limits import ImageLimits
from app.images.picture import prepare
from model.decoding.caption import Caption
from model.decoding.options import DecodingOptions
from model.runtime.captioner import Captioner

# Multiples of JPEG's block size, so that a rotated picture has the same blocks.
SIZE = (128, 96)
FORMATS = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
    "PNG": {},
    "TIFF": {},
    **({"AVIF": {"quality": 95, "subsampling": "4:4:4"}} if features.check("avif") else {}),
}
STORED_BY_TURNING = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.fixture(scope="module")
def captioner(tiny_captioner: Path) -> Captioner:
    return Captioner.load(tiny_captioner)


def stored(kind: str, orientation: int) -> bytes:
    """A file as a camera held in this orientation writes it: white above red, with a blue corner at the lower left."""
    upright = tiny.picture("white", "red", SIZE)
    upright.paste(tiny.COLOURS["blue"], (0, 64, 48, 96))
    turn = STORED_BY_TURNING[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    file = io.BytesIO()
    (upright if turn is None else upright.transpose(turn)).save(file, kind, exif=exif, **FORMATS[kind])
    return file.getvalue()


def caption_of(captioner: Captioner, data: bytes) -> tuple[list[Caption], Image.Image]:
    working = prepare(data, ImageLimits())
    assert (working.width, working.height) == SIZE
    image = Image.open(io.BytesIO(working.data))
    return captioner.caption([image], DecodingOptions(beam_size=3, num_captions=3))[0], image


@pytest.mark.parametrize("kind", FORMATS)
def test_every_orientation_gets_the_same_captions_and_heatmaps(captioner: Captioner, kind: str) -> None:
    expected, _ = caption_of(captioner, stored("PNG", 1))
    assert len({weight for word in expected[0].words for weight in word.attention.weights}) > 1
    for orientation in range(1, 9):
        captions, image = caption_of(captioner, stored(kind, orientation))
        assert image.size == SIZE
        assert [caption.text for caption in captions] == [caption.text for caption in expected]
        for caption, same in zip(captions, expected, strict=True):
            assert caption.logprob == pytest.approx(same.logprob, abs=0.05)
            for word, same_word in zip(caption.words, same.words, strict=True):
                assert word.attention.weights == pytest.approx(same_word.attention.weights, abs=0.01)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG", "TIFF"])
def test_every_orientation_gives_the_same_working_image(kind: str) -> None:
    assert len({prepare(stored(kind, orientation), ImageLimits()).data for orientation in range(1, 9)}) == 1
