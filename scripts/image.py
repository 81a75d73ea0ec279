"""`make image`: build the image, and run it as docker-compose.yml with docker-compose.cpu.yml says.

Needs a Docker engine, and the Dockerfile's base or, where no registry of images can be reached, Debian's debootstrap as
root (scripts/image_base.py). The container has no network. Exit code 1 and the reason when something is not as it
should be, 2 without an engine. Two images stay: the one that was checked, and the base.
"""

from __future__ import annotations

import json
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.compose import ROOT, read_compose, run_options
from scripts.docker import CALL_S, NotAsItShouldBe, docker
from scripts.image_base import find_base

IMAGE = "prelabel-check"
QUESTIONS = Path(__file__).with_name("image_questions.py")
BUILD_S = 3600.0
MADE_BY_DOCKER = {"/sbin", "/sbin/docker-init", "/usr", "/usr/sbin", "/usr/sbin/docker-init"}
"""`docker diff` shows the place where Docker puts its init."""
CODE_LAYER_BYTES = 32 * 2**20
PICTURES = ROOT / "model_loader" / "garments" / "pictures"


def check(ok: bool, what: str) -> None:
    if not ok:
        raise NotAsItShouldBe(f"not so: {what}")
    print(f"✓ {what}", flush=True)


def build(context: Path, base: str, tag: str) -> float:
    """Build the image and return the seconds it took."""
    began = time.monotonic()
    docker("build", "--network=host", f"--build-arg=BASE={base}", f"--tag={tag}", str(context), limit_s=BUILD_S)
    return time.monotonic() - began


def layers(image: str) -> list[str]:
    return list(json.loads(docker("inspect", "--format={{json .RootFS.Layers}}", image)))


def size_of(image: str) -> int:
    return int(docker("inspect", "--format={{.Size}}", image))


def check_code_layer(base: str) -> None:
    """A change of one line of code makes one new layer, a small one."""
    changed = f"{IMAGE}-changed"
    with tempfile.TemporaryDirectory() as folder:
        copy_context(Path(folder))
        with Path(folder, "backend", "errors.py").open("a", encoding="utf-8") as file:
            file.write("# one line more\n")
        took_s = build(Path(folder), base, changed)
    try:
        new = [layer for layer in layers(changed) if layer not in layers(IMAGE)]
        history = docker("history", "--human=false", "--no-trunc", "--format={{.Size}} {{.CreatedBy}}", changed)
        newest = next(line for line in history.splitlines() if "COPY" in line)
    finally:
        docker("rmi", changed)
    check(len(new) == 1, "a change of one line of code makes one new layer")
    size = int(newest.partition(" ")[0])
    check(size < CODE_LAYER_BYTES, f"that layer has {size / 1e6:.1f} MB, and was made in {took_s:.0f} s")


def copy_context(folder: Path) -> None:
    """All that the image is built from."""
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")]
    for name in ("Dockerfile", ".dockerignore", *kept):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name)
        else:
            shutil.copy(ROOT / name, folder)


@contextmanager
def running(options: list[str]) -> Iterator[str]:
    """A container of the image with no network, until the block ends."""
    name = docker("run", "--detach", "--network=none", *options, IMAGE)
    try:
        yield name
    except Exception:
        print(docker("logs", "--tail=50", name), file=sys.stderr)
        raise
    finally:
        docker("rm", "--force", "--volumes", name)


def wait_until_healthy(name: str) -> None:
    deadline = time.monotonic() + CALL_S
    while (state := docker("inspect", "--format={{.State.Health.Status}}", name)) == "starting":
        if time.monotonic() > deadline:
            break
        time.sleep(1)
    check(state == "healthy", "its health check finds it healthy")


def check_serving(options: list[str]) -> None:
    with running([*options, f"--env=BASIC_AUTH_PASS={secrets.token_hex(16)}"]) as name:
        print(docker("exec", "--interactive", name, "python", "-", stdin=QUESTIONS.read_text("utf-8")))
        wait_until_healthy(name)
        written = [line for line in docker("diff", name).splitlines() if line.partition(" ")[2] not in MADE_BY_DOCKER]
        check(not written, f"nothing was written outside /data and /tmp {' '.join(written)}".rstrip())
        docker("stop", name)
        state = json.loads(docker("inspect", "--format={{json .State}}", name))
        check(state["ExitCode"] == 0 and not state["OOMKilled"], "told to stop, it ends with exit code 0")


def check_annotating(options: list[str]) -> None:
    mount = f"--volume={PICTURES}:/shop:ro"
    command = ["annotate", "/shop", "--output=shop.jsonl", "--json"]
    said = json.loads(docker("run", "--rm", "--network=none", mount, *options, IMAGE, *command))
    done, total = said["num_done"], said["num_total"]
    check(
        done == total > 0, f"`annotate /shop --output shop.jsonl` asks for no password, and annotates {done} pictures"
    )


def main() -> int:
    try:
        docker("version", "--format={{.Server.Version}}")
    except NotAsItShouldBe as error:
        print(f"make image needs a Docker engine, and none answers: {error}", file=sys.stderr)
        return 2
    try:
        service = read_compose("docker-compose.yml", "docker-compose.cpu.yml")["services"]["prelabel"]
        options = run_options(service) + [f"--env={name}={value}" for name, value in service["environment"].items()]
        base = find_base()
        took_s = build(ROOT, base, IMAGE)
        check(True, f"the image is built on {base}: {size_of(IMAGE) / 1e9:.2f} GB, in {took_s:.0f} s")
        check_code_layer(base)
        check_serving(options)
        check_annotating(options)
    except NotAsItShouldBe as error:
        print(f"make image: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
