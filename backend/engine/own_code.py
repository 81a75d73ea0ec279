"""Whether prelabel's code on the disk is the code that runs. After an update beside a running server the next engine
process would speak another language than the API process does: messages are read by the order of their fields. And it
might answer otherwise, under the same model version. Raises OSError.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

PACKAGES = ("backend", "model_loader", "label_config")
_ROOT = Path(__file__).parents[2]


def code_digest(root: Path = _ROOT) -> str:
    """Of the source files of PACKAGES in `root`, as they are now."""
    digest = hashlib.sha256()
    for file in sorted(file for package in PACKAGES for file in (root / package).rglob("*.py")):
        digest.update(f"{file.relative_to(root)}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16]
