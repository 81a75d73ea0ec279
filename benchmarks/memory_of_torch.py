"""Have torch's memory on a card grow as the engine's does. To be imported before torch, or it has no effect.

`KEPT`: what a person has set that rules it out, which is kept; "" where there is nothing.
"""

from __future__ import annotations

import os

from backend.engine.allocator import use_expandable_segments

KEPT = use_expandable_segments(os.environ)
