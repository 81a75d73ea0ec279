"""Who has no password may ask with a thousand connections at once, and nobody who has it waits for their replies."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from backend.api.access import HELD, MAX_ADDRESS_CHARS, Access, address_of
from backend.api.connections import ConnectionLimits, ServerConfig
from backend.api.middleware import Edge
from backend.metrics import Metrics
from backend.settings import load_settings
from tests.limits import WAIT_S

NUM = 50
RIGHT = (b"authorization", b"Basic " + base64.b64encode(b"prelabel:long enough"))
STRANGE: dict[str, tuple[str, list[tuple[bytes, bytes]]]] = {
    "without a password": ("/health", []),
    "the open path": ("/livez", []),
    "too many headers": ("/health", [(b"x", b"y")] * 101),
    "a page of another site": ("/livez", [(b"origin", b"https://evil.example")]),
}


class Asked:
    """Requests to an app behind the edge, and who was answered, in order."""

    def __init__(self, folder: Path) -> None:
        password = {"basic_auth_user": "prelabel", "basic_auth_pass": "long enough"}
        settings = load_settings({"data_dir": folder, "host": "0.0.0.0", **password})
        self.answered: list[str] = []
        self.held: list[bool] = []
        self._edge = Edge(self._app, Metrics(), Access(settings), frozenset())

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.held.append(HELD in scope["state"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ask(self, name: str, path: str, headers: list[tuple[bytes, bytes]], client: str = "192.0.2.1") -> int:
        statuses: list[int] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            statuses.extend([message["status"]] if "status" in message else [])

        method = "POST" if any(key == b"origin" for key, _ in headers) else "GET"
        scope: Scope = {"type": "http", "method": method, "path": path, "headers": [(b"host", b"here"), *headers],
                        "client": (client, 1), "state": {}, "query_string": b""}  # fmt: skip
        await self._edge(scope, receive, send)
        self.answered.append(name)
        return statuses[0]


@pytest.mark.parametrize("kind", STRANGE)
def test_who_has_the_password_is_answered_before_most_of_the_strangers_who_came_first(
    kind: str, tmp_path: Path
) -> None:
    async def main() -> None:
        asked = Asked(tmp_path)
        many = [asyncio.create_task(asked.ask("stranger", *STRANGE[kind])) for _ in range(NUM)]
        assert await asked.ask("known", "/health", [RIGHT]) == 200
        assert asked.answered.index("known") <= 2
        statuses = await asyncio.gather(*many)
        assert len(set(statuses)) == 1
        assert not any(asked.held)  # who is answered is not cut any more

    asyncio.run(asyncio.wait_for(main(), WAIT_S))


def test_the_open_path_does_not_wait_for_all_that_are_refused_nor_one_address_for_another(tmp_path: Path) -> None:
    async def main() -> None:
        asked = Asked(tmp_path)
        many = [asyncio.create_task(asked.ask("refused", "/health", [])) for _ in range(NUM)]
        await asked.ask("open", "/livez", [])
        await asked.ask("elsewhere", "/health", [], client="192.0.2.2")
        assert asked.answered.count("refused") <= 6
        await asyncio.gather(*many)

    asyncio.run(asyncio.wait_for(main(), WAIT_S))


@pytest.mark.parametrize(
    ("client", "counts_as"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("a socket", "a socket"),
        ("x" * 9_999, "x" * MAX_ADDRESS_CHARS),
        ("", ""),
    ],
)
def test_addresses_that_one_client_has_are_one(client: str, counts_as: str) -> None:
    assert address_of({"client": (client, 1)}) == counts_as
    assert address_of({"client": None}) == ""


PROXIES = {"trusted_proxies": "127.0.0.1, 172.18.0.0/16"}


@pytest.mark.parametrize(
    ("settings", "client", "forwarded", "counts_as"),
    [
        pytest.param({}, "127.0.0.1", "192.0.2.7", "192.0.2.7", id="nginx on this machine"),
        pytest.param({}, "127.0.0.1", "10.9.9.9, 192.0.2.7", "192.0.2.7", id="what the client wrote itself"),
        pytest.param({}, "127.0.0.1", None, "127.0.0.1", id="no proxy"),
        pytest.param({}, "192.0.2.1", "192.0.2.7", "192.0.2.1", id="no proxy of ours"),
        pytest.param(PROXIES, "172.18.0.9", "192.0.2.7", "192.0.2.7", id="nginx in a container"),
        pytest.param(PROXIES, "127.0.0.1", "192.0.2.7, 172.18.0.9", "192.0.2.7", id="two proxies"),
        pytest.param({"trusted_proxies": ""}, "127.0.0.1", "192.0.2.7", "127.0.0.1", id="none"),
    ],
)
def test_who_asks_through_a_proxy_counts_under_the_address_that_the_proxy_has_of_it(
    settings: dict[str, str], client: str, forwarded: str | None, counts_as: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")  # uvicorn's own setting is none of ours
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(address_of(scope))

    config = ServerConfig(app, ConnectionLimits(), 1, load_settings(settings).trusted_proxies)
    config.load()
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    scope: Any = {"type": "http", "client": (client, 1), "scheme": "http", "headers": headers}
    asyncio.run(config.loaded_app(scope, None, None))  # type: ignore[arg-type]
    assert seen == [counts_as]
