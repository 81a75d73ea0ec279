"""Which certificate authorities are trusted. Verification is never turned off. Raises SettingsError."""

from __future__ import annotations

import ssl
from functools import lru_cache
from pathlib import Path

import certifi

from backend.errors import SettingsError


@lru_cache(maxsize=4)
def tls_context(extra_ca_file: Path | None) -> ssl.SSLContext:
    """Trust the system's authorities, certifi's, and those of one file. Kept, because reading them takes long."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    if extra_ca_file is not None:
        try:
            context.load_verify_locations(extra_ca_file)
        except (OSError, ssl.SSLError):
            raise SettingsError(f"{extra_ca_file} cannot be read as a PEM file of certificates") from None
    return context
