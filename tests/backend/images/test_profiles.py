"""ICC profiles: colours become those that a browser shows. tests/end_to_end compares with a real one."""

from __future__ import annotations

import pytest
from PIL import Image

from backend.images import Limits
from backend.images.decode import FetchedImage, decode
from tests.backend.images.pictures import is_near, pixel, saved
from tests.backend.images.profiles import (
    ADOBE_RGB,
    DISPLAY_P3,
    SRGB,
    cmyk_profile,
    grey_profile,
    rgb_profile,
    with_elements,
)

P3, ADOBE, GREY = rgb_profile(DISPLAY_P3), rgb_profile(ADOBE_RGB, 2.2), grey_profile(1.8)
RED_IN_P3, RED_OF_P3 = (200, 60, 40), (217, 42, 23)  # by the definitions of both spaces


def decoded(mode: str, value: int | tuple[int, ...], profile: bytes, picture_format: str = "PNG") -> FetchedImage:
    options = {} if picture_format == "TIFF" else {"lossless": True, "quality": 100}
    image = Image.new(mode, (40, 30), value)
    return decode(saved(image, picture_format, icc_profile=profile, **options), Limits())


@pytest.mark.parametrize("picture_format", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_display_p3_becomes_srgb_in_every_format_that_has_profiles(picture_format: str) -> None:
    fetched = decoded("RGB", RED_IN_P3, P3, picture_format)
    assert is_near(pixel(fetched.picture, 20, 15), RED_OF_P3, 3)
    assert fetched.remarks == ""


@pytest.mark.parametrize(
    ("mode", "value", "profile", "colour"),
    [
        pytest.param("RGB", (120, 150, 60), ADOBE, (105, 151, 48), id="Adobe RGB"),
        pytest.param("RGB", (255, 255, 255), P3, (255, 255, 255), id="white stays white"),
        pytest.param("RGB", (90, 90, 90), P3, (90, 90, 90), id="grey stays grey"),
        pytest.param("L", 128, GREY, (146, 146, 146), id="grey of an old Macintosh"),
        pytest.param("RGBA", (*RED_IN_P3, 255), P3, RED_OF_P3, id="opaque"),
        pytest.param("RGBA", (*RED_IN_P3, 0), P3, (255, 255, 255), id="transparent"),
        pytest.param("L", 77, P3, (77, 77, 77), id="colour profile on grey"),
    ],
)
def test_pixels_are_brought_to_srgb(
    mode: str, value: int | tuple[int, ...], profile: bytes, colour: tuple[int, int, int]
) -> None:
    assert is_near(pixel(decoded(mode, value, profile).picture, 20, 15), colour, 2)


@pytest.mark.parametrize("version", [2, 4])
@pytest.mark.parametrize("name", [b"D2B0", b"D2B1", b"B2D0"])
def test_elements_that_no_browser_reads_are_not_read_however_many_there_are(name: bytes, version: int) -> None:
    profile = with_elements(P3, name, 20_000)
    fetched = decoded("RGB", RED_IN_P3, profile[:8] + bytes([version]) + profile[9:])
    assert is_near(pixel(fetched.picture, 20, 15), RED_OF_P3, 3)
    assert fetched.remarks == ""


def test_inks_are_printed_on_the_press_of_their_profile() -> None:
    fetched = decoded("CMYK", (255, 0, 0, 0), cmyk_profile(), "JPEG")
    assert is_near(pixel(fetched.picture, 20, 15), (0, 147, 221), 12)  # Lab 55 -37 -50; without a profile: 0 255 255


def test_a_large_picture_is_converted_as_well() -> None:
    data = saved(Image.new("RGB", (2400, 1800), RED_IN_P3), "PNG", icc_profile=P3)
    assert is_near(pixel(decode(data, Limits()).picture, 700, 500), RED_OF_P3, 2)


def test_a_profile_that_says_srgb_changes_nothing() -> None:
    for value in ((200, 60, 40), (1, 2, 3), (254, 128, 0)):
        assert pixel(decoded("RGB", value, rgb_profile(SRGB)).picture, 20, 15) == value


@pytest.mark.parametrize(
    ("mode", "value", "profile", "said"),
    [
        pytest.param("RGB", RED_IN_P3, P3[:300], "damaged", id="cut off"),
        pytest.param("RGB", RED_IN_P3, b"nonsense", "damaged", id="nonsense"),
        pytest.param("RGB", RED_IN_P3, P3.replace(b"RGB ", b"HSV ", 1), "of the kind 'HSV'", id="of no kind"),
        pytest.param("RGB", RED_IN_P3, GREY, "for L pixels, and these are RGB", id="of grey"),
        pytest.param("RGB", RED_IN_P3, cmyk_profile(), "for CMYK pixels, and these are RGB", id="of inks"),
        pytest.param("RGB", RED_IN_P3, P3 + bytes(9 * 2**20), "more than 8 MB", id="huge"),
    ],
)
def test_a_profile_that_cannot_be_used_is_left_out_with_a_remark(
    mode: str, value: tuple[int, ...], profile: bytes, said: str
) -> None:
    fetched = decoded(mode, value, profile)
    assert pixel(fetched.picture, 20, 15) == value
    assert "its colour profile is left out: " in fetched.remarks
    assert said in fetched.remarks


def test_flipped_bits_in_a_profile_cost_no_picture() -> None:
    for position in range(0, len(P3), 7):
        damaged = P3[:position] + bytes([P3[position] ^ 0xFF]) + P3[position + 1 :]
        assert len(decoded("RGB", RED_IN_P3, damaged).picture.rgb) == 40 * 30 * 3
