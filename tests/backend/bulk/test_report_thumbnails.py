"""Thumbnails come from local pictures only, and nothing but a JPEG of a bounded size gets into the page."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from backend.bulk.report.pictures import MAX_THUMBNAIL_BYTES, THUMBNAIL_PX, data_address, local_thumbnail


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (3000, 20), (28, 28), (1, 1)], ids=str)
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_picture_is_made_small_and_keeps_its_shape(tmp_path: Path, size: tuple[int, int], suffix: str) -> None:
    path = tmp_path / f"名 字🎽.{suffix}"
    Image.effect_noise(size, 90).convert("RGB").save(path)
    jpeg = local_thumbnail(str(path))
    assert jpeg is not None
    with Image.open(io.BytesIO(jpeg)) as small:
        assert small.format == "JPEG"
        assert max(small.size) == min(THUMBNAIL_PX, max(size))
        assert abs(small.width - size[0] * max(small.size) / max(size)) <= 1.5
    assert len(jpeg) < MAX_THUMBNAIL_BYTES
    address = data_address(jpeg)
    assert address is not None
    assert address.startswith("data:image/jpeg;base64,/9j/")


@pytest.mark.parametrize(
    "image",
    ["", "https://pictures.example/1.jpg", "task:17", "s3://bucket/1.jpg", "relative.png", "data:image/png;base64,AAAA",
     "file:///etc/hostname", "/no/such/file.png", "/dev/zero", "/", "/a\0b"],
)  # fmt: skip
def test_what_is_no_local_picture_has_none(image: str) -> None:
    assert local_thumbnail(image) is None


def test_a_damaged_file_and_a_pipe_have_none(tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    os.mkfifo(tmp_path / "pipe.png")
    assert local_thumbnail(str(tmp_path / "cut.png")) is None
    assert local_thumbnail(str(tmp_path / "pipe.png")) is None


@pytest.mark.parametrize(
    "found",
    [None, b"", b"<svg onload=alert(1)>", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff" + b"x" * MAX_THUMBNAIL_BYTES],
    ids=["none", "empty", "svg", "png", "too large"],
)
def test_only_a_small_jpeg_gets_an_address(found: bytes | None) -> None:
    assert data_address(found) is None
