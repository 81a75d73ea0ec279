"""Formats, orientation and size of the decoded picture."""

from __future__ import annotations

import io
import struct
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from backend.errors import ImageError
from backend.images import Limits
from backend.images.decode import decode
from tests.backend.images.pictures import BLUE, GREEN, RED, WHITE, is_near, noise, pixel, png, saved
from tests.limits import examples

LIMITS = Limits()
OUTCOMES = {"decoded", "corrupt", "not_an_image", "unsupported_format", "too_many_pixels", "bad_shape"}
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"]


def refused(data: bytes, limits: Limits = LIMITS) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(data, limits)
    return caught.value


@pytest.mark.parametrize("picture_format", FORMATS)
def test_every_supported_format_is_decoded(picture_format: str) -> None:
    fetched = decode(saved(Image.new("RGB", (60, 40), RED), picture_format), LIMITS)
    assert (fetched.picture.width_px, fetched.picture.height_px) == (60, 40)
    assert is_near(pixel(fetched.picture, 30, 20), RED)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        pytest.param(b"", "an empty file", id="empty"),
        pytest.param(b"<!DOCTYPE html><html>", "HTML", id="page"),
        pytest.param(b"\xef\xbb\xbf\n <html>", "HTML", id="page with byte order mark"),
        pytest.param(b"<?xml version='1.0'?><Error><Code>AccessDenied", "XML", id="storage error"),
        pytest.param(b'{"detail": "Not found."}', "JSON", id="JSON"),
        pytest.param(b"Not found", "text", id="text"),
        pytest.param(b"\0\0\0\x18ftypisom\0\0\0\0mp42avc1", "video", id="MP4"),
        pytest.param(b"%PDF-1.7", "PDF", id="PDF"),
        pytest.param(b"RIFF\0\0\0\0AVI LIST", "video", id="AVI"),
        pytest.param(b"\x01\x02\x03\x04", "an unknown format", id="bytes"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, name: str) -> None:
    error = refused(data)
    assert error.kind == "not_an_image"
    assert str(error).startswith(f"It is not a supported image (got {name}).")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"<?xml version='1.0'?><!-- x --><svg/>", "SVG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "EPS"),
        (b"8BPS\0\1", "PSD"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"II\xbc\x01\x20", "JPEG XR"),
        (b"SIMPLE  =                    T", "FITS"),
        (b"icns\0\0\0\0", "ICNS"),
        (b"\0\0\1\0\1\0", "ICO"),
        (b"P6\n4 4\n255\n", "PNM"),
        (b"qoif\0\0\0\4", "QOI"),
        (b"II*\0\x10\0\0\0CR\2\0", "camera raw (CR2)"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "camera raw (CR3)"),
        (b"FUJIFILMCCD-RAW 0201", "camera raw (RAF)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_picture_of_another_format_is_named(data: bytes, name: str) -> None:
    error = refused(data)
    assert error.kind == "unsupported_format"
    assert str(error) == f"It is a picture of a format that is not read ({name}). Save it as JPEG or PNG."


@pytest.mark.parametrize("picture_format", FORMATS)
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.95], ids=["start", "half", "most"])
def test_a_cut_off_file_is_corrupt(picture_format: str, kept: float) -> None:
    data = saved(noise((300, 200)), picture_format)
    error = refused(data[: max(16, int(len(data) * kept))])
    assert (error.kind, error.retryable) == ("corrupt", False)
    assert "0x" not in str(error)


@pytest.mark.parametrize("picture_format", FORMATS)
def test_damaged_bytes_are_decoded_or_corrupt_and_nothing_else(picture_format: str) -> None:
    data = saved(noise((64, 64)), picture_format)
    for position in range(8, len(data), max(1, len(data) // examples(40, 300))):
        for value in (0, 255):
            damaged = data[:position] + bytes([value]) + data[position + 1 :]
            try:
                decode(damaged, LIMITS)
                outcome = "decoded"
            except ImageError as error:
                outcome = error.kind
            assert outcome in OUTCOMES


CORNERS = {  # orientation -> colours of the upright picture: top left, top right, bottom left, bottom right
    1: (RED, GREEN, BLUE, WHITE),
    2: (GREEN, RED, WHITE, BLUE),
    3: (WHITE, BLUE, GREEN, RED),
    4: (BLUE, WHITE, RED, GREEN),
    5: (RED, BLUE, GREEN, WHITE),
    6: (BLUE, RED, WHITE, GREEN),
    7: (WHITE, GREEN, BLUE, RED),
    8: (GREEN, WHITE, RED, BLUE),
}


def quarters(size: tuple[int, int] = (64, 32)) -> Image.Image:
    """Red, green, blue and white, from the top left in reading order."""
    width, height = size[0] // 2, size[1] // 2
    image = Image.new("RGB", size, WHITE)
    image.paste(RED, (0, 0, width, height))
    image.paste(GREEN, (width, 0, size[0], height))
    image.paste(BLUE, (0, height, width, size[1]))
    return image


def exif_with(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


@pytest.mark.parametrize("picture_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", list(CORNERS))
def test_the_picture_is_turned_upright(picture_format: str, orientation: int) -> None:
    if picture_format == "TIFF":
        data = saved(quarters(), "TIFF", tiffinfo={0x0112: orientation})
    else:
        data = saved(quarters(), picture_format, exif=exif_with(orientation), quality=100)
    picture = decode(data, LIMITS).picture
    width, height = picture.width_px, picture.height_px
    assert (width, height) == ((64, 32) if orientation < 5 else (32, 64))
    found = [pixel(picture, x, y) for y in (4, height - 5) for x in (4, width - 5)]
    assert all(is_near(colour, wanted, 30) for colour, wanted in zip(found, CORNERS[orientation], strict=True))


def test_a_large_turned_picture_is_shrunk_and_turned() -> None:
    data = saved(quarters((3000, 2000)), "JPEG", exif=exif_with(6))
    picture = decode(data, LIMITS).picture
    assert (picture.width_px, picture.height_px) == (1000, 1500)
    assert is_near(pixel(picture, 990, 10), RED)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_impossible_orientation_is_ignored(orientation: int) -> None:
    assert decode(saved(quarters(), "JPEG", exif=exif_with(orientation)), LIMITS).picture.width_px == 64


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "exif",
    [
        pytest.param(b"Exif\0\0II*\0\xff\xff\xff\xff", id="directory beyond the end"),
        pytest.param(b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", id="too many entries"),
        pytest.param(b"Exif\0\0", id="empty"),
        pytest.param(b"Exif\0\0nonsense nonsense", id="no byte order"),
    ],
)
def test_damaged_exif_does_not_matter(exif: bytes) -> None:
    assert decode(saved(quarters(), "JPEG", exif=exif), LIMITS).picture.width_px == 64


def test_an_orientation_that_only_xmp_claims_is_ignored_as_browsers_do() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    assert decode(saved(quarters(), "JPEG", xmp=xmp), LIMITS).picture.width_px == 64


def test_exif_orientation_of_the_wrong_type_is_ignored() -> None:
    entry = struct.pack("<HHLHH", 0x0112, 2, 1, 6, 0)
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + bytes(4)
    assert decode(saved(quarters(), "JPEG", exif=exif), LIMITS).picture.width_px == 64


class TestSize:
    @pytest.mark.parametrize("size", [(1, 1), (3, 1), (1, 3), (27, 27), (200, 1), (1, 200)])
    def test_a_tiny_picture_keeps_its_size(self, size: tuple[int, int]) -> None:
        picture = decode(png(size), LIMITS).picture
        assert (picture.width_px, picture.height_px) == size

    @pytest.mark.parametrize("size", [(201, 1), (1, 30000), (30000, 1)])
    def test_a_stripe_is_refused_with_its_shape(self, size: tuple[int, int]) -> None:
        error = refused(png(size))
        assert error.kind == "bad_shape"
        assert f"{size[0]}x{size[1]}" in str(error)

    @pytest.mark.parametrize("picture_format", ["JPEG", "PNG"])
    @pytest.mark.parametrize("size", [(4000, 3000), (3001, 2999), (1501, 1001), (9000, 100), (100, 9000), (16000, 80)])
    def test_a_large_picture_is_shrunk_in_its_proportions(self, picture_format: str, size: tuple[int, int]) -> None:
        picture = decode(saved(Image.new("RGB", size, BLUE), picture_format), LIMITS).picture
        num_pixels = picture.width_px * picture.height_px
        assert num_pixels <= LIMITS.picture_max_pixels * 1.02
        assert num_pixels >= min(size[0] * size[1], LIMITS.picture_max_pixels) * 0.98
        assert picture.width_px / picture.height_px == pytest.approx(size[0] / size[1], rel=0.02)
        assert len(picture.rgb) == 3 * num_pixels

    def test_shrinking_keeps_the_content(self) -> None:
        small = noise((40, 30))
        large = small.resize((4000, 3000), Image.Resampling.NEAREST)
        picture = decode(saved(large, "PNG"), LIMITS).picture
        for x, y in ((3, 3), (20, 15), (38, 28)):
            at = (int((x + 0.5) * picture.width_px / 40), int((y + 0.5) * picture.height_px / 30))
            wanted = small.getpixel((x, y))
            assert isinstance(wanted, tuple)
            assert is_near(pixel(picture, *at), (int(wanted[0]), int(wanted[1]), int(wanted[2])), 3)

    @pytest.mark.parametrize("picture_format", ["JPEG", "PNG"])
    @pytest.mark.parametrize("size", [(900, 700), (640, 480), (401, 299), (330, 250)])
    @pytest.mark.parametrize("seen_px", [64, 128, 256], ids="the model sees {0}x{0}".format)
    def test_what_the_model_sees_is_what_it_would_see_of_all_pixels(
        self, picture_format: str, size: tuple[int, int], seen_px: int
    ) -> None:
        """Of shapes with grain on them, within 1 of 255 on average: many pixels are averaged, none is left out."""
        shapes = noise((16, 12)).resize(size, Image.Resampling.BICUBIC)
        data = saved(Image.blend(shapes, noise(size), 0.1), picture_format)
        limits = replace(LIMITS, picture_max_pixels=6 * 128**2, seen_pixels=seen_px**2)
        picture = decode(data, limits).picture
        shrunk = Image.frombytes("RGB", (picture.width_px, picture.height_px), picture.rgb)
        whole = Image.open(io.BytesIO(data)).convert("RGB")
        ours, theirs = (
            np.asarray(image.resize((seen_px, seen_px), Image.Resampling.BICUBIC), float) for image in (shrunk, whole)
        )
        assert np.abs(ours - theirs).mean() < 1


class TestFrames:
    @pytest.mark.parametrize("picture_format", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
    def test_the_first_frame_of_an_animation_is_taken(self, picture_format: str) -> None:
        frames = [Image.new("RGB", (20, 20), colour) for colour in (RED, GREEN, BLUE)]
        fetched = decode(saved(frames[0], picture_format, save_all=True, append_images=frames[1:]), LIMITS)
        assert is_near(pixel(fetched.picture, 10, 10), RED)

    def test_a_phone_picture_with_a_second_picture_behind_it_is_the_first(self) -> None:
        image = Image.new("RGB", (3000, 2000), GREEN)
        fetched = decode(saved(image, "MPO", save_all=True, append_images=[Image.new("RGB", (30, 20), RED)]), LIMITS)
        assert is_near(pixel(fetched.picture, 5, 5), GREEN)
