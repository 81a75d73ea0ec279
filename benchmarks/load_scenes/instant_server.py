"""`prelabel serve` with an engine that answers at once and pictures that need no network: what is left is our own work.

Run as `python -m benchmarks.load_scenes.instant_server FILE` with the settings in the environment; at its end it writes
into FILE how many transactions the store has committed.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from dataclasses import replace
from pathlib import Path

from backend.commands.serve import serve
from backend.engine.api import EngineStatus
from backend.engine.messages import Finished, GenerateRequest, Picture, Ready
from backend.images import FetchedImage
from backend.settings import load_settings
from backend.store import faults
from label_config.answer import FieldValue, render_answer

READY = Ready("instant", "none", "cpu", 0.0, 0.0)
ANSWER: dict[str, FieldValue] = {
    "caption": "一位年轻女性身穿白色长款连衣裙，手持米色折叠遮阳伞，面朝大海站立，整体氛围清新自然，适合夏季女装推广。",
    "category": (("服饰", "连体装", "连衣裙"),),
    "style": ("优雅",),
    "season": ("夏季",),
    "scene": ("聚会约会",),
}


class InstantEngine:
    """Always the same answer to the label config `garments.zh`."""

    status = EngineStatus("ready", "ready", 1.0, READY)

    async def start(self) -> None: ...

    async def wait_ready(self, timeout_s: float) -> Ready:
        return READY

    async def generate(self, request: GenerateRequest) -> Finished:
        pieces = tuple(char.encode() for char in render_answer(request.schema, ANSWER))
        return Finished(0, pieces, tuple(0.999 for _ in pieces), "stop", 100, 64)

    async def close(self) -> None:
        self.status = replace(self.status, state="stopped")


class InstantImages:
    """Any address is a grey picture whose bytes are its address."""

    async def fetch(
        self, url: str, *, task_id: int | None, timeout_s: float, interactive: bool = False
    ) -> FetchedImage:
        await asyncio.sleep(0)
        return FetchedImage(Picture(4, 4, b"\x80" * 48), hashlib.sha256(url.encode()).hexdigest())

    async def aclose(self) -> None: ...


def main() -> int:
    num_commits = 0

    def count(point: str) -> None:
        nonlocal num_commits
        num_commits += point == "after_commit"

    faults.install(count)
    code = serve(load_settings(), lambda settings: InstantEngine(), lambda settings: InstantImages())
    Path(sys.argv[1]).write_text(str(num_commits), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
