"""What `make image` asks inside the container, as its user and with its Python; read from stdin there.

Prints a line for each thing that is as it should be, and ends with the reason at the first that is not.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time
import urllib.error
import urllib.request
from importlib.resources import files
from pathlib import Path
from typing import Any

from label_config.ready_made import ready_made

LOAD_S = 300.0
FIELDS = {"caption", "category", "style", "season", "scene"}
PICTURE = files("model_loader") / "garments" / "pictures" / "bag-00030.png"


def check(ok: bool, what: str) -> None:
    if not ok:
        sys.exit(f"not so: {what}")
    print(f"✓ {what}")


def ask(path: str, body: dict[str, Any] | None = None, *, password: str = "") -> tuple[int, bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:9090{path}", json.dumps(body).encode() if body else None)
    request.add_header("Content-Type", "application/json")
    if password:
        request.add_header("Authorization", "Basic " + base64.b64encode(f"prelabel:{password}".encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310 - of this container
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError as error:
        return 0, str(error).encode()


def is_read_only(folder: str) -> bool:
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def wait_for_the_model(password: str) -> None:
    deadline = time.monotonic() + LOAD_S
    said: tuple[int, bytes] = (0, b"")
    while time.monotonic() < deadline:
        said = ask("/status.json", password=password)
        if said[0] == 200 and json.loads(said[1])["model"]["state"] == "ready":
            return
        time.sleep(0.5)
    sys.exit(f"the model was not loaded within {LOAD_S:.0f} s: {said}")


def main() -> None:
    password = os.environ["BASIC_AUTH_PASS"]
    state = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    check(os.getuid() == 10001, "it runs as user 10001")
    check(int(state["CapBnd"], 16) == 0 and state["NoNewPrivs"] == "1", "without capabilities, and can gain none")
    check(is_read_only("/") and is_read_only("/opt/prelabel"), "on a read-only root file system")
    check(Path.cwd() == Path("/data"), "it works in /data")
    check("prelabel" not in Path("/proc/1/cmdline").read_text().split("\0")[0], "process 1 is an init")
    wait_for_the_model(password)
    check(True, "the model is loaded, without a network")
    expected = {Path(value).parts[2] for value in os.environ.values() if value.startswith("/data/")}
    found = {file.name for file in Path("/data").iterdir()}
    check(
        "prelabel" in found <= expected, f"nothing lies in /data but what its settings name: {', '.join(sorted(found))}"
    )
    address = "data:image/png;base64," + base64.b64encode(PICTURE.read_bytes()).decode()
    body = {
        "tasks": [{"id": 1, "data": {"image": address}}],
        "project": "1.1",
        "label_config": ready_made("garments.zh"),
    }
    check(ask("/predict", body)[0] == 401, "/predict without the password is refused")
    status, reply = ask("/predict", body, password=password)
    check(status == 200, "/predict answers")
    [prediction] = json.loads(reply)["results"]
    filled = {region["from_name"] for region in prediction["result"]}
    check(filled >= FIELDS, f"the picture is answered in every field: {', '.join(sorted(filled))}")


main()
