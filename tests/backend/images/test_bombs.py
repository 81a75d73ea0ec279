"""Small files that would need much memory. Measured in processes of their own, where the peak is theirs."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from backend.errors import ImageError
from backend.images import Limits
from backend.images.decode import decode
from tests.backend.images.pictures import saved

MAX_GROWTH_MB = 300
QUICKLY: dict[str, Any] = {"speed": 10, "method": 0, "compress_level": 1, "enc_params": {"preset": "ultrafast"}}
"""How each kind of picture is saved: what is measured is the reading."""
MEASURE = """
import resource, sys
from pathlib import Path
from backend.errors import ImageError
from backend.images import Limits
from backend.images.decode import decode

data = Path(sys.argv[1]).read_bytes()
peak_mb = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak_mb()
try:
    picture = decode(data, Limits()).picture
    outcome = f"{picture.width_px}x{picture.height_px}"
except ImageError as error:
    outcome = error.kind
print(outcome, int(peak_mb() - before))
"""


def claiming(width: int, height: int) -> bytes:
    """A PNG whose header claims a size and whose data are short."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))

    header = struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [7072, 9000, 12000, 20000, 100_000, 2**31 - 1])
def test_too_many_pixels_are_refused_from_the_header(side: int) -> None:
    with pytest.raises(ImageError) as caught:
        decode(claiming(side, side), Limits())
    assert caught.value.kind in ("too_many_pixels", "corrupt")
    assert caught.value.kind == "too_many_pixels" or side > 2**30


def test_webp_has_a_stricter_limit_because_its_decoder_keeps_more_copies() -> None:
    limits = Limits(max_decode_bytes=16 * 100)
    assert decode(saved(Image.new("RGB", (10, 10)), "WEBP"), limits).picture.rgb
    with pytest.raises(ImageError, match="WEBP") as caught:
        decode(saved(Image.new("RGB", (11, 10)), "WEBP"), limits)
    assert caught.value.kind == "too_many_pixels"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "size", "picture_format"),
    [
        pytest.param("RGBA", (7000, 7000), "PNG", id="largest PNG with transparency"),
        pytest.param("CMYK", (7000, 7000), "JPEG", id="largest CMYK JPEG"),
        pytest.param("RGB", (4300, 4300), "WEBP", id="largest WebP"),
        pytest.param("RGB", (5700, 5700), "AVIF", id="largest AVIF"),
        pytest.param("RGB", (5000, 4990), "HEIF", id="largest HEIC"),
        pytest.param("RGBA", (5000, 4990), "HEIF", id="largest HEIC with transparency"),
        pytest.param("L", (7000, 7000), "GIF", id="largest GIF"),
        pytest.param("I;16", (7000, 7000), "PNG", id="largest 16-bit grey"),
    ],
)
def test_the_memory_of_one_picture_is_bounded(
    tmp_path: Path, mode: str, size: tuple[int, int], picture_format: str
) -> None:
    path = tmp_path / "picture"
    Image.new(mode, size).save(path, picture_format, quality=30, **QUICKLY)
    assert path.stat().st_size < 3 * 2**20
    command = [sys.executable, "-c", MEASURE, str(path)]
    measured = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert measured[0] in ("1225x1225", "1226x1224")
    assert int(measured[1]) < MAX_GROWTH_MB
