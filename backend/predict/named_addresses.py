"""The addresses that Label Studio has called itself in /setup, kept over restarts: tasks may be written with them.

Label Studio calls /setup when a backend is connected or its page is opened, not at a start of prelabel. Raises nothing.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from backend.label_studio.address import LabelStudioAddresses
from backend.store.state_file import StateFile

log = logging.getLogger(__name__)

FILE_NAME = "label_studio.json"
_KEY = "named_in_setup"


class NamedAddresses:
    """Tells `addresses` what the data folder has and what comes later. Use it from one event loop."""

    def __init__(self, data_dir: Path, addresses: LabelStudioAddresses) -> None:
        self._file = file = StateFile(data_dir / FILE_NAME)
        self._addresses = addresses
        kept = file.load().get(_KEY)
        for url in kept if isinstance(kept, list) else ():
            if isinstance(url, str):
                addresses.name(url)

    async def remember(self, url: str) -> None:
        """Label Studio calls itself `url`; "" if it did not say."""
        if not url or not self._addresses.name(url):
            return
        log.info("Label Studio calls itself %s: pictures with that address are asked for at LABEL_STUDIO_URL", url)
        try:
            await asyncio.to_thread(self._file.save, {_KEY: list(self._addresses.named)})
        except OSError as error:
            log.warning("the address that Label Studio calls itself could not be saved: %s", error.strerror)
