"""A Label Studio whose certificate an authority of its own company has signed."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from backend.errors import LabelStudioError, SettingsError
from backend.label_studio.client import LabelStudioClient
from backend.label_studio.tls import tls_context
from tests.backend.fake_label_studio import LEGACY_KEY, fake_label_studio


def test_it_is_reached_with_the_authority_and_refused_without(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with fake_label_studio(context) as server:
        with LabelStudioClient(server.url, LEGACY_KEY, extra_ca_file=tmp_path / "ca.pem") as client:
            assert "@" in client.user_email()
        with (
            LabelStudioClient(server.url, LEGACY_KEY) as stranger,
            pytest.raises(LabelStudioError, match="PRELABEL_EXTRA_CA_FILE"),
        ):
            stranger.user_email()


def test_a_file_that_holds_no_certificates_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(SettingsError, match=r"ca\.pem"):
        tls_context(tmp_path / "ca.pem")
