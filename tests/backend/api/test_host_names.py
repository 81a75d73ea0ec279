"""By which names a backend without a password may be asked: a page of another site can have its name lead here."""

from __future__ import annotations

from typing import Any

import pytest

from backend.api.host_names import HostNames
from backend.errors import Forbidden
from backend.settings import load_settings

PRIVATE = {"allow_no_auth": True, "host": "0.0.0.0"}
NAMED = {"allowed_hosts": "Prelabel.example.com., host.docker.internal,[2001:db8::7],münchen.example"}


@pytest.mark.parametrize(
    ("settings", "host"),
    [
        ({}, "localhost"),
        ({}, "localhost:9090"),
        ({}, "LocalHost.:9090"),
        ({}, "127.0.0.1:9090"),
        ({}, "127.1.2.3"),
        ({}, "[::1]:9090"),
        ({"host": "GPU-box"}, "gpu-box:9090"),
        (NAMED, "prelabel.example.com"),
        (NAMED, "PRELABEL.example.com:443"),
        (NAMED, "host.docker.internal:9090"),
        (NAMED, "[2001:db8::7]:9090"),
        (NAMED, "xn--mnchen-3ya.example"),
        (PRIVATE, "prelabel:9090"),
        (PRIVATE, "prelabel.internal:9090"),
        (PRIVATE, "172.18.0.3:9090"),
        (PRIVATE, "[fd00::3]"),
        (PRIVATE, "localhost:9090"),
    ],
)
def test_names_of_ours_are_let_in(settings: dict[str, Any], host: str) -> None:
    HostNames(load_settings(settings)).check([host])


@pytest.mark.parametrize("settings", [{}, {"host": "gpu-box"}, NAMED, PRIVATE])
@pytest.mark.parametrize(
    "hosts",
    [
        ["evil.example"],
        ["evil.example:9090"],
        ["localhost.evil.example"],
        ["127.0.0.1.evil.example"],
        ["evil.example.internal.example"],
        ["evillocalhost.example"],
        ["localhost@evil.example"],
        ["evil.example#localhost"],
        ["localhost/evil.example"],
        ["localhost evil.example"],
        ["127.1"],
        ["2130706433"],
        ["0x7f.0.0.1"],
        ["0177.0.0.1"],
        ["[::1"],
        ["localhost:port"],
        [""],
        ["."],
        [":9090"],
        [],
        ["localhost", "evil.example"],
    ],
    ids=str,
)
def test_names_that_strangers_may_own_and_what_is_no_name_are_refused(
    settings: dict[str, Any], hosts: list[str]
) -> None:
    with pytest.raises(Forbidden, match=r"Set BASIC_AUTH_PASS .* PRELABEL_ALLOWED_HOSTS"):
        HostNames(load_settings(settings)).check(hosts)


@pytest.mark.parametrize("host", ["prelabel", "prelabel.internal", "192.168.1.7", "[fd00::3]", "0.0.0.0"])
def test_names_of_a_private_network_are_refused_where_nobody_said_that_there_is_one(host: str) -> None:
    with pytest.raises(Forbidden, match=f'called "{host}"'.replace("[", r"\[")):
        HostNames(load_settings({})).check([host])


@pytest.mark.parametrize("given", ["https://prelabel.example.com", "a b", "*.example.com", "127.1", "a,,b/c"])
def test_what_is_no_host_name_is_refused_at_the_start(given: str) -> None:
    with pytest.raises(Exception, match=r'^PRELABEL_ALLOWED_HOSTS: ".*" is no host name; write them as'):
        load_settings({"allowed_hosts": given})
