"""The server of the tests of `backend`, attacked."""

from __future__ import annotations

from tests.backend.conftest import _clean_environment, shared_server

__all__ = ["_clean_environment", "shared_server"]
