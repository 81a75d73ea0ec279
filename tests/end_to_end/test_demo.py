"""`prelabel demo` as a newcomer runs it: its own Label Studio and backend, and nothing left when it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests import left_behind
from tests.limits import RUN_S, WAIT_S, until

DEMO = [sys.executable, "-c", "from backend.cli import main; main()", "demo"]


def running_below(folder: Path) -> list[str]:
    """Command lines of processes whose working files are below `folder`."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            environment = (entry / "environ").read_bytes()
            if entry.name.isdigit() and str(folder).encode() in environment:
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def logged_in_as(url: str, username: str, password: str) -> str:
    """Log in on Label Studio's own page; returns the address of the user it then knows."""
    with httpx.Client(base_url=url, timeout=WAIT_S, trust_env=False, follow_redirects=True) as http:
        http.get("/user/login/")
        form = {"email": username, "password": password, "csrfmiddlewaretoken": http.cookies["csrftoken"]}
        http.post("/user/login/", data=form, headers={"Referer": url}).raise_for_status()
        return str(http.get("/api/current-user/whoami").raise_for_status().json()["email"])


def test_it_fills_every_task_serves_until_it_is_told_to_stop_and_leaves_nothing(tmp_path: Path) -> None:
    output, folder = tmp_path / "output.txt", tmp_path / "tmp"
    folder.mkdir()
    environment = os.environ | {"TMPDIR": str(folder), "PRELABEL_PORT": "1"}  # our settings must not reach it
    with output.open("w") as file:
        demo = subprocess.Popen(DEMO, env=environment, stdout=file, stderr=file)
    try:
        until(lambda: "Ctrl-C ends the demo" in output.read_text() or demo.poll() is not None, "a demo that serves")
        printed = output.read_text()
        assert "32 of 32 tasks pre-filled in every field" in printed
        assert "32 of 32 answered" in printed
        assert re.search(r"upper-half-\S+\.png .* yes\b", printed), "none that a person has to look at"
        assert "32 predictions are in Label Studio" in printed
        [(url, project)] = re.findall(r"Open +(http://127\.0\.0\.1:\d+)(/projects/\d+/data)", printed)
        [(username, password)] = re.findall(r"Login +(\S+) +password +(\S+)", printed)
        [status] = re.findall(r"Status +(http://\S+/status\?lang=en)", printed)
        [page] = re.findall(r"Quality +file://(\S+)", printed)
        assert "Blind check of 32 pictures" in printed
        assert "Simulated: no person labelled these pictures" in Path(page).read_text(encoding="utf-8")
        assert logged_in_as(url, username, password) == username
        assert f"{url}{project}" in httpx.get(status, timeout=WAIT_S, trust_env=False).text
        assert httpx.get(url + project, timeout=WAIT_S, trust_env=False).is_redirect  # to the log-in
        assert running_below(folder)
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(WAIT_S) == 0, output.read_text()
    finally:
        left_behind.end({demo.pid})
        demo.wait(WAIT_S)
    until(lambda: running_below(folder) == [], "the end of everything it started")
    assert list(folder.glob("prelabel-*")) == []


@pytest.mark.soak
def test_the_check_ends_by_itself_and_keeps_its_files_where_it_is_told(tmp_path: Path) -> None:
    done = subprocess.run(
        [*DEMO, "--check", "--data-dir", str(tmp_path)], capture_output=True, text=True, timeout=RUN_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert running_below(tmp_path) == []
    [kept] = tmp_path.iterdir()
    assert {"label-studio.log", "prelabel.log"} <= {entry.name for entry in kept.iterdir()}
