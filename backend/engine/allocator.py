"""How torch's memory on a card grows. Has its effect only before torch is imported; imports no torch itself.

Packing the weights leaves holes between them, in which no KV cache fits: the first start would hold fewer requests than
the second. With expandable segments torch maps pages behind what it has instead, and a hole is given back.
"""

from __future__ import annotations

from collections.abc import MutableMapping

SETTING, EARLIER_SETTING = "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"
SEGMENTS = "expandable_segments:True"


def use_expandable_segments(environ: MutableMapping[str, str]) -> str:
    """Ask torch for them, beside what `environ` says already. Returns "", or what a person has set that rules them out,
    which is kept."""
    said = environ.get(SETTING) or environ.get(EARLIER_SETTING, "")  # torch reads the second only without the first
    if SEGMENTS in said:
        return ""
    if "expandable_segments" in said or "backend:cudaMallocAsync" in said:
        return f"{SETTING if environ.get(SETTING) else EARLIER_SETTING}={said} is kept"
    environ[SETTING] = f"{said},{SEGMENTS}".lstrip(",")
    return ""
