"""Everything a process was started with is in /proc for whoever takes it over: of ours none was given a secret."""

from __future__ import annotations

import asyncio
import os
from contextlib import closing
from pathlib import Path

import pytest

from backend.api.parser import MODERATE_BYTES, BodyParser
from backend.images import Limits
from backend.images.apart import Decoders
from tests import left_behind
from tests.backend.engine.client_rig import running
from tests.backend.images.pictures import png
from tests.limits import WAIT_S

SECRETS = {
    "BASIC_AUTH_PASS": "c4n4ry-1",
    "LABEL_STUDIO_API_KEY": "c4n4ry-2",
    "PRELABEL_PICTURE_HEADERS": '{"a.example": {"X": "c4n4ry-3"}}',
    "prelabel_proxy": "http://a:c4n4ry-4@proxy",
    "AWS_SECRET_ACCESS_KEY": "c4n4ry-5",
    "GITHUB_TOKEN": "c4n4ry-6",
    "DATABASE_URL": "postgres://a:c4n4ry-7@db/x",
    "PGPASSWORD": "c4n4ry-8",
}
FOR_THE_ENGINE = {
    "HF_TOKEN": "hf_c4n4ry",
    "CUDA_VISIBLE_DEVICES": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "LIBRARY_PATH": "/opt//lib:/home/anna@corp.example/lib",
}


def test_no_process_of_ours_was_given_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SECRETS, **FOR_THE_ENGINE}.items():
        monkeypatch.setenv(name, value)

    async def run() -> dict[str, str]:
        async with running() as engine:
            await engine.wait_ready(WAIT_S)
            with closing(BodyParser(WAIT_S)) as parser, closing(Decoders(Limits())) as decoders:
                await parser.run(MODERATE_BYTES, os.getpid)
                await parser.run(MODERATE_BYTES + 1, os.getpid)
                await asyncio.to_thread(decoders.decode, png())
                return {
                    f"{name} {pid}": Path(f"/proc/{pid}/environ").read_text()
                    for name in ("prelabel-engine", "prelabel-reader", "prelabel-decoder")
                    for pid in left_behind.named(name)
                }

    given = asyncio.run(run())
    assert [name.partition(" ")[0] for name in given].count("prelabel-reader") == 2
    assert len(given) == 4
    for name, environment in given.items():
        assert "c4n4ry" not in environment.replace("HF_TOKEN=hf_c4n4ry", ""), name
        for variable, value in FOR_THE_ENGINE.items():
            assert (f"{variable}={value}\0" in environment) == ("engine" in name), (name, variable)
