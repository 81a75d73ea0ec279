"""Pictures with colour profiles: the model sees the colours that the annotator's browser shows."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser

from backend.images import Limits
from backend.images.decode import decode
from tests.backend.images.pictures import saved
from tests.backend.images.profiles import ADOBE_RGB, DISPLAY_P3, cmyk_profile, grey_profile, rgb_profile
from tests.end_to_end.pages.browser import new_page

SHOWN = """async address => {
    const image = new Image();
    image.src = address;
    await image.decode();
    const canvas = document.createElement('canvas');
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const context = canvas.getContext('2d');
    context.fillStyle = 'white';
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, 0, 0);
    return Array.from(context.getImageData(0, 0, canvas.width, canvas.height).data);
}"""
SIZE = (160, 120)
COLOURS = Image.fromarray(np.random.default_rng(3).integers(0, 256, (12, 16, 3), np.uint8)).resize(SIZE)
CLEAR = COLOURS.copy()
CLEAR.putalpha(Image.linear_gradient("L").resize(SIZE))
P3, ADOBE, GREY = rgb_profile(DISPLAY_P3), rgb_profile(ADOBE_RGB, 2.2), grey_profile(1.8)


@pytest.mark.parametrize(
    ("image", "picture_format", "profile"),
    [
        pytest.param(COLOURS, "JPEG", P3, id="P3 JPEG"),
        pytest.param(COLOURS, "PNG", P3, id="P3 PNG"),
        pytest.param(COLOURS.quantize(64), "PNG", P3, id="P3 palette"),
        pytest.param(CLEAR, "PNG", P3, id="P3 half transparent"),
        pytest.param(COLOURS, "WEBP", ADOBE, id="Adobe WebP"),
        pytest.param(COLOURS, "AVIF", ADOBE, id="Adobe AVIF"),
        pytest.param(COLOURS.convert("L"), "PNG", GREY, id="grey PNG"),
        pytest.param(COLOURS.convert("L"), "JPEG", P3, id="grey with a profile of colours"),
        pytest.param(COLOURS, "JPEG", GREY, id="colours with a profile of grey"),
        pytest.param(COLOURS, "PNG", P3[:200], id="damaged"),
        pytest.param(COLOURS.convert("CMYK"), "JPEG", cmyk_profile(), id="inks"),
        pytest.param(COLOURS.convert("CMYK"), "JPEG", b"", id="inks without a profile"),
    ],
)
def test_colours_are_those_of_the_browser(
    browser: Browser, image: Image.Image, picture_format: str, profile: bytes
) -> None:
    options = {"quality": 95} | ({"lossless": True} if picture_format == "WEBP" else {})
    data = saved(image, picture_format, icc_profile=profile, **options)
    page = new_page(browser, 400, 300)
    address = f"data:image/{picture_format.lower()};base64,{base64.b64encode(data).decode()}"
    shown = np.array(page.evaluate(SHOWN, address), np.int32).reshape(SIZE[1], SIZE[0], 4)[..., :3]
    page.close()
    seen = np.frombuffer(decode(data, Limits()).picture.rgb, np.uint8).reshape(shown.shape)
    assert np.abs(shown - seen).mean() < 1
