"""How torch's memory on a card grows. Has its effect only before torch is imported; imports no torch itself.

Packing the weights leaves holes between them, in which no KV cache fits: the first start would hold fewer requests than
the second. With expandable segments torch maps pages behind what it has instead, and a hole is given back.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping

log = logging.getLogger(__name__)

SETTING, EARLIER_SETTING = "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"
SEGMENTS = "expandable_segments:True"


def use_expandable_segments(environ: MutableMapping[str, str]) -> None:
    """Ask torch for them, beside what `environ` says already. A person who says otherwise is told what that costs."""
    said = environ.get(SETTING) or environ.get(EARLIER_SETTING, "")  # torch reads the second only without the first
    if SEGMENTS in said:
        return
    if "expandable_segments" in said or "backend:cudaMallocAsync" in said:
        log.warning(
            "%s is kept, which rules out expandable segments of the card's memory: the first start, which packs the "
            "weights, may hold fewer requests at once than later ones. Unset it, or add %s.",
            f"{SETTING if environ.get(SETTING) else EARLIER_SETTING}={said}", SEGMENTS,
        )  # fmt: skip
        return
    environ[SETTING] = f"{said},{SEGMENTS}".lstrip(",")
