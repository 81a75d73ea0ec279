"""Forms of pictures that browsers show and Pillow by itself refuses, and the names of what is refused."""

from __future__ import annotations

import struct
import sys
import zlib

import pytest
from PIL import Image, TiffImagePlugin

from backend.errors import ImageError
from backend.images import Limits
from backend.images.decode import decode
from tests.backend.images.pictures import BLUE, GREEN, RED, is_near, pixel, saved
from tests.backend.images.profiles import DISPLAY_P3, rgb_profile

LIMITS = Limits()


def refused(data: bytes) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(data, LIMITS)
    return caught.value


def chunk(kind: bytes, body: bytes, damage: int = 0) -> bytes:
    return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body) ^ damage)


def png_with(*chunks: bytes, colour: tuple[int, int, int] = RED) -> bytes:
    """The chunks stand behind the header."""
    good = saved(Image.new("RGB", (16, 12), colour), "PNG")
    return good[:33] + b"".join(chunks) + good[33:]


BIG = zlib.compress(b"a" * 3_000_000)
BOMB = zlib.compress(bytes(100_000_000))


class TestPng:
    @pytest.mark.parametrize(
        "extra",
        [
            pytest.param(chunk(b"zTXt", b"Comment\0\0" + BIG), id="compressed text of 3 MB"),
            pytest.param(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BIG), id="compressed XMP of 3 MB"),
            pytest.param(chunk(b"zTXt", b"Comment\0\0" + BOMB), id="text bomb"),
            pytest.param(chunk(b"zTXt", b"Comment\0\0" + BIG) * 40, id="many texts"),
            pytest.param(chunk(b"iCCP", b"big\0\0" + BOMB), id="profile bomb"),
            pytest.param(chunk(b"iCCP", b"bad\0\0nonsense"), id="profile that does not inflate"),
            pytest.param(chunk(b"tEXt", b"Comment\0hello", 1), id="wrong checksum of a text"),
            pytest.param(chunk(b"pHYs", bytes(9), 1), id="wrong checksum of the density"),
            pytest.param(chunk(b"eXIf", b"II*\0", 1), id="wrong checksum of EXIF"),
            pytest.param(chunk(b"tRNS", bytes(6), 1), id="wrong checksum of the transparency"),
            pytest.param(chunk(b"gAMA", b"\0"), id="a chunk that is too short"),
            pytest.param(chunk(b"prVt", b"private"), id="private chunk"),
        ],
    )
    def test_what_the_picture_does_not_need_cannot_spoil_it(self, extra: bytes) -> None:
        assert pixel(decode(png_with(extra), LIMITS).picture, 8, 6) == RED

    def test_a_profile_above_one_mebibyte_is_used(self) -> None:
        profile = rgb_profile(DISPLAY_P3) + bytes(2 * 2**20)
        data = png_with(chunk(b"iCCP", b"P3\0\0" + zlib.compress(profile)), colour=(200, 60, 40))
        assert is_near(pixel(decode(data, LIMITS).picture, 8, 6), (217, 42, 23), 2)

    def test_a_damaged_chunk_that_matters_a_little_is_remarked_upon(self) -> None:
        fetched = decode(png_with(chunk(b"tRNS", bytes(6), 1)), LIMITS)
        assert fetched.remarks == "its tRNS chunk is damaged and left out"

    def test_a_wrong_checksum_of_the_header_is_damage(self) -> None:
        data = bytearray(png_with())
        data[29] ^= 1
        assert refused(bytes(data)).kind == "corrupt"


def bmp(bits: int, masks: tuple[int, ...], values: list[int], compression: int = 3, header: int = 56) -> bytes:
    """One row of `values`."""
    row = b"".join(value.to_bytes(bits // 8, "little") for value in values)
    row += bytes(-len(row) % 4)
    info = struct.pack("<LllHHLLllLL4L", header, len(values), 1, 1, bits, compression, len(row), 0, 0, 0, 0, *masks)
    return struct.pack("<2sL4xL", b"BM", 14 + len(info) + len(row), 14 + len(info)) + info + row


class TestBmp:
    @pytest.mark.parametrize(
        ("bits", "masks", "values"),
        [
            pytest.param(16, (0xF00, 0xF0, 0xF, 0xF000), [0xFF00, 0xF0F0, 0xF00F], id="4:4:4:4"),
            pytest.param(16, (0x7C00, 0x3E0, 0x1F, 0x8000), [0xFC00, 0x83E0, 0x801F], id="1:5:5:5"),
            pytest.param(16, (0xE0, 0x1C, 0x3, 0), [0xE0, 0x1C, 0x3], id="3:3:2"),
            pytest.param(
                32, (0x3FF, 0xFFC00, 0x3FF00000, 0xC0000000), [0xC00003FF, 0xC00FFC00, 0xFFF00000], id="10:10:10:2"
            ),
            pytest.param(32, (0x3FF00000, 0xFFC00, 0x3FF, 0), [0x3FF00000, 0xFFC00, 0x3FF], id="10:10:10"),
            pytest.param(16, (0xF800, 0x7E0, 0x1F, 0), [0xF800, 0x7E0, 0x1F], id="5:6:5 as Pillow reads it"),
            pytest.param(32, (0xFF, 0xFF00, 0xFF0000, 0), [0xFF, 0xFF00, 0xFF0000], id="bytes the other way"),
        ],
    )
    def test_any_bit_masks_are_read(self, bits: int, masks: tuple[int, ...], values: list[int]) -> None:
        picture = decode(bmp(bits, masks, values), LIMITS).picture
        assert [pixel(picture, x, 0) for x in range(3)] == [RED, GREEN, BLUE]

    @pytest.mark.parametrize(
        ("data", "form"),
        [
            pytest.param(bmp(32, (0, 0, 0, 0), [0] * 9, compression=4), "compression (4)", id="JPEG in a BMP"),
            pytest.param(bmp(32, (0, 0, 0, 0), [0] * 9, compression=5), "compression (5)", id="PNG in a BMP"),
            pytest.param(bmp(64, (0, 0, 0, 0), [0] * 9, compression=0), "pixel depth (64)", id="64 bits"),
        ],
    )
    def test_other_forms_are_named(self, data: bytes, form: str) -> None:
        error = refused(data)
        assert error.kind == "unsupported_format"
        assert str(error).startswith("It is a picture of a form of BMP that is not read (Unsupported BMP ")
        assert form in str(error)


class TestTiff:
    def test_a_camera_raw_whose_first_picture_is_a_thumbnail_is_refused(self) -> None:
        error = refused(saved(Image.new("RGB", (160, 120), RED), "TIFF", tiffinfo={254: 1}))
        assert error.kind == "unsupported_format"
        assert "thumbnail, as in camera raw files such as DNG or NEF" in str(error)

    @pytest.mark.parametrize(
        ("compression", "name"), [(34712, "JPEG 2000"), (34934, "JPEG XR"), (34887, "LERC"), (4242, "4242")]
    )
    def test_a_compression_that_is_not_read_is_named(self, compression: int, name: str) -> None:
        data = bytearray(saved(Image.new("RGB", (16, 12)), "TIFF"))
        at = data.index(struct.pack("<HH", TiffImagePlugin.COMPRESSION, 3))
        data[at + 8 : at + 10] = struct.pack("<H", compression)
        error = refused(bytes(data))
        assert error.kind == "unsupported_format"
        assert f"(compression {name})" in str(error)

    def test_pixels_of_an_unknown_kind_are_named(self) -> None:
        data = bytearray(saved(Image.new("RGB", (16, 12)), "TIFF"))
        at = data.index(struct.pack("<HH", TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, 3))
        data[at + 8 : at + 10] = struct.pack("<H", 32803)  # a sensor's mosaic
        assert "unknown pixel mode" in str(refused(bytes(data)))

    def test_a_fax_with_damaged_lines_is_damaged(self) -> None:
        data = bytearray(saved(Image.effect_noise((300, 200), 100).convert("1"), "TIFF", compression="group4"))
        for position in range(200, len(data) - 400, 97):
            data[position] ^= 0xFF
        assert refused(bytes(data)).kind == "corrupt"


@pytest.mark.parametrize(
    ("frame", "form"), [(0xC3, "lossless"), (0xC5, "hierarchical"), (0xCB, "lossless"), (0xF7, "JPEG-LS")]
)
def test_a_jpeg_of_a_rare_kind_is_named(frame: int, form: str) -> None:
    data = bytearray(saved(Image.new("RGB", (16, 12)), "JPEG"))
    data[data.index(b"\xff\xc0") + 1] = frame
    error = refused(bytes(data))
    assert (error.kind, f"({form})" in str(error)) == ("unsupported_format", True)


def test_a_jpeg_of_twelve_bits_is_named() -> None:
    data = bytearray(saved(Image.new("RGB", (16, 12)), "JPEG"))
    data[data.index(b"\xff\xc0") + 4] = 12
    assert "(12 bits a channel)" in str(refused(bytes(data)))


class TestHeic:
    @pytest.mark.parametrize(("mode", "value"), [("RGB", RED), ("RGBA", (*RED, 255)), ("L", 76)])
    def test_a_phones_picture_is_read(self, mode: str, value: int | tuple[int, ...]) -> None:
        fetched = decode(saved(Image.new(mode, (64, 48), value), "HEIF", quality=100), LIMITS)
        assert (fetched.picture.width_px, fetched.picture.height_px) == (64, 48)
        assert is_near(pixel(fetched.picture, 30, 20), RED if mode != "L" else (76, 76, 76))

    def test_without_pillow_heif_the_refusal_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = saved(Image.new("RGB", (64, 48)), "HEIF")
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        error = refused(data)
        assert error.kind == "unsupported_format"
        assert "the extra `heic`" in str(error)
        assert "'.[heic]'" in str(error)

    def test_a_header_that_claims_another_size_than_the_stream_is_refused(self) -> None:
        data = saved(Image.new("RGB", (1024, 768), RED), "HEIF")
        claimed = data.replace(struct.pack(">4s4xLL", b"ispe", 1024, 768), struct.pack(">4s4xLL", b"ispe", 64, 64))
        assert claimed != data
        assert refused(claimed).kind == "corrupt"
