"""`prelabel demo` as a newcomer runs it: its own Label Studio and backend, and nothing left when it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

DEMO = [sys.executable, "-c", "from backend.cli import main; main()", "demo"]
DEMO_S = 400


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


def test_the_check_fills_every_task_and_leaves_nothing_behind(tmp_path: Path) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path), "PRELABEL_PORT": "1"}  # our settings must not reach it
    done = subprocess.run([*DEMO, "--check"], env=environment, capture_output=True, text=True, timeout=DEMO_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "30 of 30 tasks pre-filled in every field" in done.stdout
    assert "30 of 30 answered" in done.stdout
    assert "30 predictions are in Label Studio" in done.stdout
    assert "/status?lang=en" in done.stdout
    assert "password" in done.stdout
    assert not list(tmp_path.glob("prelabel-*"))


def test_it_serves_until_it_is_told_to_stop_and_ends_both_servers(tmp_path: Path) -> None:
    output = tmp_path / "output.txt"
    with output.open("w") as file:
        demo = subprocess.Popen([*DEMO, "--data-dir", str(tmp_path / "kept")], stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + DEMO_S
        while "Ctrl-C ends the demo" not in output.read_text() and time.monotonic() < deadline and demo.poll() is None:
            time.sleep(0.5)
        assert running_below(tmp_path / "kept")
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(60) == 0, output.read_text()
    finally:
        demo.kill()
    assert running_below(tmp_path / "kept") == []
    [kept] = (tmp_path / "kept").iterdir()
    assert {"label-studio.log", "prelabel.log"} <= {entry.name for entry in kept.iterdir()}
