"""What one image may cost: the defaults of the settings, and of programs that decode images without a web process."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Bounds on one image file and on the process that decodes it."""

    max_bytes: int = 20 * 2**20  # of the file
    max_pixels: int = 64_000_000  # width × height of the upload
    working_side: int = 768  # longer side of the working image, in pixels
    decode_seconds: float = 20.0  # for one image, without the time that it waits
    decode_bytes: int = 3 * 2**29  # address space of a decoding process

    @property
    def largest_file(self) -> int:
        """Bytes that a decoding process can take in and still have room to decode them."""
        return self.decode_bytes // 8
