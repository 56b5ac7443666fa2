"""The pool of decoding processes: hostile pictures, a full pool, and the end of the server.

Functions that run in a child, such as os.abort and ctypes.string_at(0), simulate harmful pictures.
"""

import asyncio
import ctypes
import io
import multiprocessing
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app.images.decoder import DecoderBusy, PictureDecoder
from app.images.limits import ImageLimits
from app.images.picture import PictureRefused, Refusal, WorkingImage

ROOT = Path(__file__).parents[3]
MEMORY = 1 << 30


def a_jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (300, 200), (10, 200, 30)).save(buffer, "JPEG")
    return buffer.getvalue()


def with_decoder(
    story: Callable[[PictureDecoder], Coroutine[Any, Any, None]],
    processes: int = 2,
    timeout: float = 20,
    max_waiting: int = 100,
) -> None:
    async def run() -> None:
        async with PictureDecoder(
            processes, ImageLimits(decode_seconds=timeout, decode_bytes=MEMORY), max_waiting
        ) as decoder:
            await story(decoder)

    asyncio.run(run())
    assert multiprocessing.active_children() == []


def ended(pidfd: int) -> bool:
    """Wait until a process has ended; False after 20 seconds."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(20_000))


def test_images_are_decoded_or_refused() -> None:
    async def story(decoder: PictureDecoder) -> None:
        working = await decoder.prepare(io.BytesIO(a_jpeg()))
        assert isinstance(working, WorkingImage)
        assert (working.width, working.height) == (300, 200)
        with pytest.raises(PictureRefused) as refused:
            await decoder.prepare(io.BytesIO(b"hello"))
        assert refused.value.reason is Refusal.UNSUPPORTED_FORMAT
        assert "JPEG" in refused.value.detail
        many = await asyncio.gather(*(decoder.prepare(io.BytesIO(a_jpeg())) for _ in range(50)))
        assert {(image.width, image.data == working.data) for image in many} == {(300, True)}

    with_decoder(story)


@pytest.mark.parametrize(
    ("function", "argument"),
    [(os._exit, (3,)), (os.abort, ()), (ctypes.string_at, (0,))],
    ids=["exit", "abort", "segfault"],
)
def test_a_crash_refuses_only_its_own_image(function: Callable[..., Any], argument: tuple[int, ...]) -> None:
    async def story(decoder: PictureDecoder) -> None:
        for _ in range(2):
            crash, *others = await asyncio.gather(
                decoder._run(function, *argument),
                *(decoder.prepare(io.BytesIO(a_jpeg())) for _ in range(6)),
                return_exceptions=True,
            )
            assert isinstance(crash, PictureRefused)
            assert crash.reason is Refusal.UNDECODABLE_IMAGE
            assert all(isinstance(other, WorkingImage) for other in others)

    with_decoder(story)


def test_a_timeout_stops_even_c_code() -> None:
    async def story(decoder: PictureDecoder) -> None:
        for stuck in ("sum(range(10**12))", "__import__('time').sleep(600)"):
            with pytest.raises(PictureRefused) as refused:
                await decoder._run(eval, stuck)
            assert refused.value.reason is Refusal.UNDECODABLE_IMAGE
            assert "longer than 0.4 seconds" in refused.value.detail
        # not a picture: a busy machine might need longer than the limit
        assert await decoder._run(os.getpid) != os.getpid()

    with_decoder(story, processes=1, timeout=0.4)


def test_children_are_confined_and_import_little() -> None:
    async def story(decoder: PictureDecoder) -> None:
        assert await decoder._run(resource.getrlimit, resource.RLIMIT_AS) == (MEMORY, MEMORY)
        assert await decoder._run(resource.getrlimit, resource.RLIMIT_CORE) == (0, 0)
        assert await decoder._run(signal.getsignal, signal.SIGINT) == signal.SIG_IGN
        with pytest.raises(MemoryError):
            await decoder._run(bytearray, 2 * MEMORY)
        heavy = "sorted({'torch', 'fastapi', 'numpy', 'redis', 'pydantic'} & set(__import__('sys').modules))"
        assert await decoder._run(eval, heavy) == []
        with pytest.raises(ValueError, match="larger than"):
            await decoder.prepare(io.BytesIO(bytes(MEMORY // 8 + 1)))

    with_decoder(story, processes=1)


def test_an_image_that_needs_too_much_memory_is_refused() -> None:
    async def story() -> None:
        buffer = io.BytesIO()
        Image.new("RGB", (7000, 7000)).save(buffer, "PNG", compress_level=1)
        async with PictureDecoder(1, ImageLimits(decode_seconds=60, decode_bytes=128 << 20), 1) as decoder:
            with pytest.raises(PictureRefused, match="too much memory") as refused:
                await decoder.prepare(io.BytesIO(buffer.getvalue()))
            assert refused.value.reason is Refusal.UNDECODABLE_IMAGE
            assert (await decoder.prepare(io.BytesIO(a_jpeg()))).width == 300

    asyncio.run(story())


def bombs() -> dict[str, bytes]:
    """Small files that would need much memory for pixels, frames, text, a profile or pages."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    def encoded(kind: str, **options: object) -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", (16, 16), (10, 200, 30)).save(buffer, kind, **options)
        return buffer.getvalue()

    def png(*chunks: bytes) -> bytes:
        whole = encoded("PNG")
        return whole[:33] + b"".join(chunks) + whole[33:]

    zeros = zlib.compress(bytes(300_000_000), 9)
    page = struct.pack("<H", 0) + struct.pack("<I", 0)  # an empty directory, and the offset of the next one
    pages = b"".join(page[:2] + struct.pack("<I", 8 + 6 * (number + 1)) for number in range(100_000))
    return {
        "zTXt": png(chunk(b"zTXt", b"x\0\0" + zeros)),
        "iTXt": png(chunk(b"iTXt", b"x\0\1\0\0\0" + zeros)),
        "iCCP": png(chunk(b"iCCP", b"x\0\0" + zeros)),
        "many texts": png(*[chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(1_000_000), 9))] * 300),
        "APNG": png(chunk(b"acTL", struct.pack(">II", 0xFFFFFFFF, 0))),
        "TIFF pages": b"II*\0" + struct.pack("<I", 8) + pages,
        "TIFF tag": b"II*\0" + struct.pack("<IHHHII", 8, 1, 270, 2, 0x7FFFFFFF, 8) + bytes(9),
        "GIF screen": b"GIF89a" + struct.pack("<HH", 65535, 976) + encoded("GIF")[10:],
        "JPEG": encoded("JPEG").replace(struct.pack(">HH", 16, 16), struct.pack(">HH", 65500, 970), 1),
        "WebP": bytes(encoded("WEBP", save_all=True, append_images=[Image.new("RGB", (16, 16))] * 50)[:-9]),
    }


def test_decompression_bombs_are_refused_without_a_crash() -> None:
    async def story() -> None:
        async with PictureDecoder(1, ImageLimits(decode_seconds=60, decode_bytes=256 << 20), 1) as decoder:
            child = await decoder._run(os.getpid)
            for name, data in bombs().items():
                assert len(data) < 2 << 20, name
                (answer,) = await asyncio.gather(decoder.prepare(io.BytesIO(data)), return_exceptions=True)
                assert isinstance(answer, (WorkingImage, PictureRefused)), name
                assert await decoder._run(os.getpid) == child, name

    asyncio.run(story())


def test_children_that_cannot_start_are_reported() -> None:
    async def story() -> None:
        impossible = 1 << 70  # setrlimit rejects this value
        with pytest.raises(DecoderBusy):
            await PictureDecoder(1, ImageLimits(decode_seconds=20, decode_bytes=impossible), 1).start()

    asyncio.run(story())
    assert multiprocessing.active_children() == []


def test_children_killed_while_idle_are_replaced() -> None:
    async def story(decoder: PictureDecoder) -> None:
        for _ in range(3):
            for child in multiprocessing.active_children():
                child.kill()
                child.join()
            images = await asyncio.gather(*(decoder.prepare(io.BytesIO(a_jpeg())) for _ in range(4)))
            assert len(images) == 4

    with_decoder(story)


def test_a_full_pool_refuses_and_recovers() -> None:
    async def story(decoder: PictureDecoder) -> None:
        answers = await asyncio.gather(
            *(decoder.prepare(io.BytesIO(a_jpeg())) for _ in range(9)), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [WorkingImage] * 4 + [DecoderBusy] * 5
        assert (await decoder.prepare(io.BytesIO(a_jpeg()))).width == 300

    with_decoder(story, processes=1, max_waiting=3)


def test_cancelled_requests_free_their_slots() -> None:
    async def story(decoder: PictureDecoder) -> None:
        for rounds in (0, 1, 5):
            requests = [asyncio.create_task(decoder.prepare(io.BytesIO(a_jpeg()))) for _ in range(6)]
            for _ in range(rounds):
                await asyncio.sleep(0)
            for request in requests:
                request.cancel()
            answers = await asyncio.gather(*requests, return_exceptions=True)
            assert all(isinstance(answer, asyncio.CancelledError) for answer in answers)
        assert (await decoder.prepare(io.BytesIO(a_jpeg()))).width == 300
        assert decoder._waiting == 0

    with_decoder(story, processes=1, max_waiting=6)


def test_a_cancelled_refusal_is_not_reported_as_lost() -> None:
    async def story(decoder: PictureDecoder) -> None:
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        request = asyncio.create_task(decoder.prepare(io.BytesIO(b"no picture")))
        await asyncio.sleep(0)
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
        await decoder.close()
        assert complaints == []

    with_decoder(story)


def test_close_stops_every_process() -> None:
    async def story(decoder: PictureDecoder) -> None:
        pidfds = [os.pidfd_open(child.pid) for child in multiprocessing.active_children() if child.pid]
        assert len(pidfds) == 2
        working = asyncio.create_task(decoder.prepare(io.BytesIO(a_jpeg())))
        for _ in range(5):  # until a child has the image
            await asyncio.sleep(0)
        await decoder.close()
        assert (await working).width == 300, "close waits for images that are being decoded"
        for pidfd in pidfds:
            assert ended(pidfd)
            os.close(pidfd)
        with pytest.raises(DecoderBusy):
            await decoder.prepare(io.BytesIO(a_jpeg()))

    with_decoder(story)


ORPHANS = """
import asyncio, multiprocessing
from app.images.decoder import PictureDecoder
from app.images.limits import ImageLimits

async def main():
    async with PictureDecoder(2, ImageLimits(decode_seconds=600, decode_bytes=1 << 30), 9) as decoder:
        stuck = asyncio.create_task(decoder._run(eval, "sum(range(10**12))"))
        await decoder._run(int)
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        await stuck

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_children_die_with_a_killed_server(tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text(ORPHANS)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        assert server.stdout is not None
        pidfds = [os.pidfd_open(int(pid)) for pid in server.stdout.readline().split()]
        assert len(pidfds) == 2, "one busy, one idle"
        server.kill()
    for pidfd in pidfds:
        assert ended(pidfd)
        os.close(pidfd)
