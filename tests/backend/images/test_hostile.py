"""Damaged files of every format that is opened: each ends in a picture or a typed error, within the limit of memory.

In a process of its own, because the peak of memory is a process's, and a decoder that crashes ends one.
"""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.backend.images.pictures import saved
from tests.backend.images.profiles import DISPLAY_P3, rgb_profile
from tests.backend.images.test_bombs import MAX_GROWTH_MB
from tests.limits import WAIT_S, examples

DECODE = """
import resource, sys
from pathlib import Path
from backend.errors import ImageError
from backend.images import Limits
from backend.images.decode import decode

decode(Path(sys.argv[1]).joinpath("good").read_bytes(), Limits())
peak_mb = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak_mb()
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        picture = decode(path.read_bytes(), Limits()).picture
        assert len(picture.rgb) == 3 * picture.width_px * picture.height_px
        print("decoded")
    except ImageError as error:
        assert "0x" not in str(error)
        print(error.kind)
print(int(peak_mb() - before))
"""
OUTCOMES = {"decoded", "corrupt", "not_an_image", "unsupported_format", "too_many_pixels", "bad_shape"}


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Cut off, bits flipped where sizes stand or anywhere, bytes left out or twice, a large number somewhere."""
    changed = bytearray(data)
    match rng.randrange(5):
        case 0:
            del changed[rng.randrange(len(changed)) :]
        case 1:
            for _ in range(rng.randrange(1, 20)):
                changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        case 2:
            for _ in range(rng.randrange(1, 4)):
                changed[rng.randrange(min(400, len(changed)))] ^= 1 << rng.randrange(8)
        case 3:
            at, length = rng.randrange(len(changed)), rng.randrange(1, 200)
            changed[at : at + length] = changed[at : at + length] * rng.choice([0, 2, 50])
        case 4:
            at = rng.randrange(min(400, len(changed)))
            changed[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\x40\0", b"\0\x40\0\0"])
    return bytes(changed)


@pytest.mark.parametrize("picture_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"])
def test_damaged_files_end_in_a_picture_or_a_typed_error(tmp_path: Path, picture_format: str) -> None:
    image = Image.effect_noise((160, 120), 80).convert("RGB")
    options = {"compression": "tiff_lzw"} if picture_format == "TIFF" else {"quality": 80}
    good = saved(image, picture_format, icc_profile=rgb_profile(DISPLAY_P3), **options)
    rng = random.Random(picture_format)
    (tmp_path / "good").write_bytes(good)
    for number in range(examples(15, 100)):
        (tmp_path / f"{number:03}").write_bytes(damaged(good, rng))
    ran = subprocess.run(
        [sys.executable, "-c", DECODE, str(tmp_path)], capture_output=True, text=True, check=True, timeout=WAIT_S
    )
    *outcomes, growth_mb = ran.stdout.split()
    assert set(outcomes) <= OUTCOMES
    assert outcomes[-1] == "decoded"
    assert int(growth_mb) < MAX_GROWTH_MB
    assert ran.stderr == ""
