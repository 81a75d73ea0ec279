"""Every pixel mode becomes the RGB a browser would show."""

from __future__ import annotations

import itertools

import pytest
from PIL import Image

from backend.errors import ImageError
from backend.images import Limits
from backend.images.decode import decode
from tests.backend.images.pictures import BLUE, GREEN, RED, WHITE, is_near, pixel, saved

LIMITS = Limits()
SIZES = pytest.mark.parametrize("size", [(16, 16), (320, 240)], ids=["kept", "shrunk"])


def colour_of(data: bytes) -> tuple[int, int, int]:
    picture = decode(data, Limits(picture_max_pixels=1000)).picture
    assert picture.width_px * picture.height_px <= 1050
    return pixel(picture, picture.width_px // 2, picture.height_px // 2)


@SIZES
@pytest.mark.parametrize(("value", "grey"), [(0, 0), (255, 0), (256, 1), (40000, 156), (65535, 255)])
@pytest.mark.parametrize("picture_format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled(picture_format: str, value: int, grey: int, size: tuple[int, int]) -> None:
    assert colour_of(saved(Image.new("I;16", size, value), picture_format)) == (grey, grey, grey)


@SIZES
@pytest.mark.parametrize("value", [200, 200 * 256])
def test_big_endian_16_bit_grey_is_scaled(value: int, size: tuple[int, int]) -> None:
    grey = value // 256
    assert colour_of(saved(Image.new("I;16B", size, value), "TIFF")) == (grey, grey, grey)


@SIZES
@pytest.mark.parametrize(
    ("mode", "value", "grey"),
    [
        pytest.param("F", 0.5, 127, id="fraction of white"),
        pytest.param("F", 100.0, 100, id="byte as float"),
        pytest.param("F", 40000.0, 156, id="16 bits as float"),
        pytest.param("F", 1e9, 255, id="large float"),
        pytest.param("F", -5.0, 0, id="negative float"),
        pytest.param("I", 100, 100, id="byte as integer"),
        pytest.param("I", 40000, 156, id="16 bits as integer"),
        pytest.param("I", 2_000_000_000, 255, id="32 bits"),
        pytest.param("I", -7, 0, id="negative integer"),
    ],
)
def test_wide_grey_is_brought_to_eight_bits(mode: str, value: float, grey: int, size: tuple[int, int]) -> None:
    red, green, blue = colour_of(saved(Image.new(mode, size, value), "TIFF"))
    assert red == green == blue
    assert abs(red - grey) <= 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_corrupt(value: float) -> None:
    with pytest.raises(ImageError) as caught:
        decode(saved(Image.new("F", (8, 8), value), "TIFF"), LIMITS)
    assert caught.value.kind == "corrupt"


@SIZES
@pytest.mark.parametrize(
    ("ink", "colour"),
    [((0, 255, 255, 0), RED), ((255, 0, 255, 0), GREEN), ((0, 0, 0, 0), WHITE), ((0, 0, 0, 255), (0,) * 3)],
)
@pytest.mark.parametrize("picture_format", ["JPEG", "TIFF"])
def test_cmyk_has_its_colours_also_where_adobe_inverts_it(
    picture_format: str, ink: tuple[int, ...], colour: tuple[int, int, int], size: tuple[int, int]
) -> None:
    data = saved(Image.new("CMYK", size, ink), picture_format)
    assert (b"Adobe" in data) == (picture_format == "JPEG")
    assert is_near(colour_of(data), colour)


@SIZES
@pytest.mark.parametrize(
    ("mode", "value", "colour"),
    [
        pytest.param("RGBA", (255, 0, 0, 0), WHITE, id="hidden red"),
        pytest.param("RGBA", (255, 0, 0, 255), RED, id="opaque red"),
        pytest.param("RGBA", (255, 0, 0, 128), (255, 127, 127), id="half red"),
        pytest.param("LA", (0, 0), WHITE, id="hidden black"),
        pytest.param("LA", (0, 255), (0, 0, 0), id="opaque black"),
    ],
)
@pytest.mark.parametrize("picture_format", ["PNG", "WEBP", "TIFF"])
def test_transparency_is_put_on_white(
    picture_format: str, mode: str, value: tuple[int, ...], colour: tuple[int, int, int], size: tuple[int, int]
) -> None:
    image = Image.new(mode, size, value)
    image = image.convert("RGBA") if picture_format == "WEBP" else image
    assert is_near(colour_of(saved(image, picture_format, lossless=True)), colour, 2)


@SIZES
@pytest.mark.parametrize("picture_format", ["PNG", "GIF"])
def test_a_transparent_palette_colour_is_white(picture_format: str, size: tuple[int, int]) -> None:
    image = Image.new("P", size, 1)
    image.putpalette([*RED, *BLUE])
    assert colour_of(saved(image, picture_format)) == BLUE
    assert colour_of(saved(image, picture_format, transparency=1)) == WHITE
    assert colour_of(saved(image, picture_format, transparency=0)) == BLUE


@pytest.mark.filterwarnings("error")
def test_a_palette_with_an_alpha_per_colour_is_put_on_white() -> None:
    image = Image.new("P", (16, 16), 1)
    image.putpalette([*RED, *BLUE])
    assert is_near(colour_of(saved(image, "PNG", transparency=b"\xff\x80")), (127, 127, 255), 2)


@SIZES
def test_transparent_grey_and_transparent_rgb_are_white(size: tuple[int, int]) -> None:
    assert colour_of(saved(Image.new("L", size, 7), "PNG", transparency=7)) == WHITE
    assert colour_of(saved(Image.new("RGB", size, RED), "PNG", transparency=RED)) == WHITE


@SIZES
@pytest.mark.parametrize(("value", "colour"), [(0, (0, 0, 0)), (1, WHITE)])
def test_one_bit_is_black_and_white(value: int, colour: tuple[int, int, int], size: tuple[int, int]) -> None:
    assert colour_of(saved(Image.new("1", size, value), "PNG")) == colour
    assert colour_of(saved(Image.new("1", size, value), "TIFF", compression="group4")) == colour


@pytest.mark.parametrize("mode", ["L", "YCbCr", "LAB"])
def test_other_modes_of_tiff_become_rgb(mode: str) -> None:
    assert len(decode(saved(Image.new(mode, (16, 16)), "TIFF"), LIMITS).picture.rgb) == 16 * 16 * 3


def test_bands_leave_no_seam() -> None:
    """A large picture is converted in bands: a smooth slope must stay smooth."""
    slope = Image.linear_gradient("L").resize((2500, 5000))
    picture = decode(saved(slope, "PNG"), LIMITS).picture
    column = [pixel(picture, 100, y)[0] for y in range(picture.height_px)]
    assert all(0 <= after - before <= 2 for before, after in itertools.pairwise(column))
    assert (column[0], column[-1]) == (0, 255)
