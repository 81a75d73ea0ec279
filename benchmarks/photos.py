"""What a photo costs a core before the model sees it: `python -m benchmarks.photos [--json FILE]`.

JPEGs of three sizes, made here (smooth shapes and grain), for two sizes of what the model sees:
cost      CPU time of decoding, and of cutting into patches; once as pictures are decoded, once with no pixel averaged
          before LANCZOS, which is how they would be decoded if the model saw all of them
sameness  how far what the model sees is from the whole photo resized at once, in steps of 255
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from backend.engine.image_sizes import choose_grid
from backend.engine.messages import Picture
from backend.engine.pictures import to_patches
from backend.images.decode import decode
from backend.images.policy import Limits
from backend.predict.build import PIXELS_PER_TOKEN
from benchmarks.report import Figure, Measure, Part, measure_parts, use_threads

SIZES = {"12 MP": (4000, 3000), "3 MP": (2000, 1500), "1.5 MP": (1080, 1440)}
IMAGE_TOKENS = (256, 1024)
TOKEN_PX = 32


def cost(folder: Path, small: bool) -> Part:
    processor = Qwen2VLImageProcessorPil(patch_size=TOKEN_PX // 2, merge_size=2, temporal_patch_size=2)
    rounds = 1 if small else 5
    figures = []
    for name, size in _sizes(small):
        data = photo(*size)
        for tokens in IMAGE_TOKENS:
            about = f"{name}, {tokens} image tokens"
            for how, limits in _ways(tokens):
                figures.append(Figure(f"{about}: decoded {how}", _cpu_ms(lambda: decode(data, limits), rounds), "ms"))  # noqa: B023
            picture = decode(data, _ways(tokens)[0][1]).picture
            grid = choose_grid(*size, max_tokens=tokens, min_tokens=1, token_px=TOKEN_PX)
            ms = _cpu_ms(lambda: to_patches(picture, grid, processor, torch.bfloat16), rounds)  # noqa: B023
            figures.append(Figure(f"{about}: patches", ms, "ms"))
    return Part(f"CPU time of one photo, the least of {rounds}", figures)


def sameness(folder: Path, small: bool) -> Part:
    figures = []
    for name, size in _sizes(small):
        data = photo(*size)
        whole = Image.open(io.BytesIO(data))
        for tokens in IMAGE_TOKENS:
            grid = choose_grid(*size, max_tokens=tokens, min_tokens=1, token_px=TOKEN_PX)
            seen = (grid.columns * TOKEN_PX, grid.rows * TOKEN_PX)
            for how, limits in _ways(tokens):
                difference = np.abs(_seen(_image(decode(data, limits).picture), seen) - _seen(whole, seen))
                figures.append(Figure(f"{name}, {tokens} image tokens: {how}, mean", float(difference.mean())))
                figures.append(Figure(f"{name}, {tokens} image tokens: {how}, most", float(difference.max())))
    return Part("what the model sees of a photo, beside all its pixels resized at once", figures)


def photo(width_px: int, height_px: int) -> bytes:
    """Return a JPEG of shapes of many sizes and grain, the same at each call."""
    random = np.random.default_rng(0)
    pixels = np.full((height_px, width_px, 3), 128, np.float32)
    for blobs, strength in ((6, 60), (24, 40), (96, 25), (384, 12)):
        noise = random.integers(0, 255, (blobs, blobs, 3), dtype=np.uint8)
        shapes = Image.fromarray(noise).resize((width_px, height_px), Image.Resampling.BICUBIC)
        pixels += (np.asarray(shapes, np.float32) - 128) * strength / 128
    pixels += random.normal(0, 4, (height_px, width_px, 1))
    file = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def _sizes(small: bool) -> list[tuple[str, tuple[int, int]]]:
    return list(SIZES.items())[-1:] if small else list(SIZES.items())


def _ways(tokens: int) -> tuple[tuple[str, Limits], tuple[str, Limits]]:
    most = Limits().picture_max_pixels
    return ("as it is", Limits(seen_pixels=tokens * PIXELS_PER_TOKEN)), (
        "by LANCZOS alone",
        Limits(seen_pixels=9 * most),
    )


def _cpu_ms(call: Callable[[], object], rounds: int) -> float:
    def once() -> float:
        started = time.process_time()
        call()
        return 1e3 * (time.process_time() - started)

    return min(once() for _ in range(rounds))


def _image(picture: Picture) -> Image.Image:
    return Image.frombytes("RGB", (picture.width_px, picture.height_px), picture.rgb)


def _seen(image: Image.Image, size: tuple[int, int]) -> NDArray[np.float32]:
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC), np.float32)


PARTS: dict[str, Measure] = {"cost": cost, "sameness": sameness}


def main(arguments: Sequence[str] | None = None) -> int:
    use_threads(1)
    return measure_parts(__doc__, PARTS, arguments)


if __name__ == "__main__":
    sys.exit(main())
