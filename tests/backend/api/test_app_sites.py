"""A web page cannot have a person's browser send anything to a backend on the same machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backend.serving import predict_body, serving, setup_body, task


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=["another origin", "a hidden origin", "another site", "another host of the site"],
)
def test_a_page_of_another_site_is_refused(tmp_path: Path, headers: dict[str, str]) -> None:
    with serving(tmp_path) as server:
        for path, body in (("/setup", setup_body()), ("/predict", predict_body(task())), ("/webhook", {"action": "x"})):
            reply = server.client.post(path, json=body, headers={**headers, "Content-Type": "text/plain"})
            assert (reply.status_code, reply.json()["error"]["code"]) == (403, "forbidden")
        assert not server.engine.requests
        assert not (tmp_path / "projects.json").exists()


@pytest.mark.parametrize("site", [None, "none", "same-origin"])
def test_label_studio_and_people_are_served(tmp_path: Path, site: str | None) -> None:
    with serving(tmp_path) as server:
        headers = {"Origin": server.url} if site is None else {"Sec-Fetch-Site": site}
        assert server.client.post("/setup", json=setup_body(), headers=headers).status_code == 200
        assert server.client.post("/setup", json=setup_body()).status_code == 200
