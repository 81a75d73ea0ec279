"""What Pillow and libtiff say goes with the picture, not to stderr. In a process of its own, to see all of stderr."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PIL import Image

from tests.backend.images.pictures import saved

DECODE = """
import sys
from pathlib import Path
from backend.errors import ImageError
from backend.images import Limits
from backend.images.decode import decode

for path in sys.argv[1:]:
    try:
        print(Path(path).name, "|", decode(Path(path).read_bytes(), Limits()).remarks)
    except ImageError as error:
        print(Path(path).name, "|", error)
"""


def test_each_picture_has_one_line_of_remarks_and_stderr_stays_empty(tmp_path: Path) -> None:
    fax = bytearray(saved(Image.effect_noise((300, 200), 100).convert("1"), "TIFF", compression="group4"))
    for position in range(200, len(fax) - 400, 97):
        fax[position] ^= 0xFF
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0" + b"\x0f\x01\x02\0\xff\0\0\0\xff\0\0\0" * 5
    lzw = saved(Image.effect_noise((300, 200), 100), "TIFF", compression="tiff_lzw")
    rows = Image.new("L", (40, 30), 9)
    files = {
        "fax": bytes(fax),
        "cut": lzw[: len(lzw) // 2],
        "exif1": saved(rows, "JPEG", exif=exif),
        "exif2": saved(rows, "JPEG", exif=exif),
        "profile": saved(rows, "PNG", icc_profile=b"nonsense"),
        "good": saved(rows, "PNG"),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    command = [sys.executable, "-c", DECODE, *(str(tmp_path / name) for name in files)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    said = dict(line.split(" | ") for line in ran.stdout.splitlines())
    assert said["fax"] == said["cut"] == "The TIFF picture is damaged or cut off."
    assert said["profile"] == "its colour profile is left out: it is damaged"
    assert said["good"] == ""
    assert said["exif1"] == said["exif2"]
    assert "Corrupt EXIF data" in said["exif1"]
