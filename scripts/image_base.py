"""The image that `make image` builds on: the Dockerfile's own, or where that cannot be had one made with debootstrap.

The second is Debian 12 with its Python 3.11 and pip. It gets what this machine needs to reach its package registries:
pip's configuration, the certificate authorities, and the folders of wheels in PIP_FIND_LINKS. Raises NotAsItShouldBe.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from scripts.compose import ROOT
from scripts.docker import NotAsItShouldBe, docker, run

OWN = "prelabel-base"
PACKAGES = "python3,python3-pip,ca-certificates"
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
ENVIRONMENT = {
    "PIP_BREAK_SYSTEM_PACKAGES": "1",  # Debian's pip keeps out of Debian's Python otherwise
    "PIP_FIND_LINKS": "/wheels",
    "UV_FIND_LINKS": "/wheels",
    "PIP_CERT": AUTHORITIES,
    "SSL_CERT_FILE": AUTHORITIES,
}
MAKE_S = 1800.0


def find_base() -> str:
    """The name of the image, which is on this machine when this returns."""
    wanted = re.search(r"^ARG BASE=(\S+)$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    if wanted is None:
        raise NotAsItShouldBe("the Dockerfile names no BASE")
    for name in (wanted[1], OWN):
        if docker("images", "--quiet", name):
            return name
    try:
        docker("pull", "--quiet", wanted[1])
    except NotAsItShouldBe as error:
        print(f"{wanted[1]} cannot be fetched, so a base is made with debootstrap ({str(error).splitlines()[-1]})")
        make_base()
        return OWN
    return wanted[1]


def make_base() -> None:
    """Make the image OWN."""
    if shutil.which("debootstrap") is None or os.getuid() != 0:
        raise NotAsItShouldBe("a base of our own needs root and debootstrap: apt-get install debootstrap")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root), limit_s=MAKE_S)
        (root / "usr/bin/python").symlink_to("python3")
        for path in ("/etc/pip.conf", AUTHORITIES):
            if Path(path).exists():
                shutil.copy(path, root / path[1:])
        (root / "wheels").mkdir()
        for wheels in os.environ.get("PIP_FIND_LINKS", "").split():
            if Path(wheels).is_dir():
                shutil.copytree(wheels, root / "wheels", dirs_exist_ok=True)
        packed = Path(folder) / "root.tar"
        run("tar", "--directory", str(root), "--create", "--file", str(packed), ".", limit_s=MAKE_S)
        said = " ".join(f"{name}={value}" for name, value in ENVIRONMENT.items())
        docker("import", f"--change=ENV {said}", str(packed), OWN, limit_s=MAKE_S)
