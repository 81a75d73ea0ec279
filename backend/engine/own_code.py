"""Whether prelabel's code on the disk is the code that runs. After an update beside a running server the next engine
process would speak another language than the API process does: messages are read by the order of their fields. And it
might answer otherwise, under the same model version. Raises OSError where a file cannot be read.
"""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

PACKAGES = ("backend", "model_loader", "label_config")
_ROOT = Path(__file__).parents[2]


def code_digest(root: Path = _ROOT) -> str:
    """Of the source files of PACKAGES in `root`, as they are now."""
    digest = hashlib.sha256()
    folders = (folder for package in PACKAGES for folder in os.walk(root / package))
    for file in sorted(Path(folder, name) for folder, _, names in folders for name in names if name.endswith(".py")):
        digest.update(f"{file.relative_to(root)}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


@functools.cache
def running_code() -> str:
    """Of those that this process runs: as they were when it first asked, at its start."""
    return code_digest()


def is_another(code: str) -> bool:
    """Whether the code is not `code` any more, which was its digest; also while it is being replaced. "" is any."""
    try:
        return code not in ("", code_digest())
    except OSError:  # a file went away while it was read
        return True
