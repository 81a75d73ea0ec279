"""Real picture files, made with Pillow."""

from __future__ import annotations

import io

import pillow_heif
from PIL import Image

from backend.engine.messages import Picture

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


pillow_heif.register_heif_opener()


def saved(image: Image.Image, picture_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, picture_format, **options)
    return buffer.getvalue()


def png(size: tuple[int, int] = (64, 48), colour: tuple[int, int, int] = RED) -> bytes:
    return saved(Image.new("RGB", size, colour), "PNG")


def jpeg(size: tuple[int, int] = (64, 48), colour: tuple[int, int, int] = RED) -> bytes:
    return saved(Image.new("RGB", size, colour), "JPEG", quality=95)


def noise(size: tuple[int, int] = (640, 480)) -> Image.Image:
    """Does not compress, so the file is long."""
    return Image.merge("RGB", [Image.effect_noise(size, 100) for _ in range(3)])


def pixel(picture: Picture, x: int, y: int) -> tuple[int, int, int]:
    start = 3 * (y * picture.width_px + x)
    red, green, blue = picture.rgb[start : start + 3]
    return red, green, blue


def is_near(colour: tuple[int, int, int], wanted: tuple[int, int, int], within: int = 12) -> bool:
    return all(abs(a - b) <= within for a, b in zip(colour, wanted, strict=True))
