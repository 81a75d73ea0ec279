"""Environment variables as people's files leave them, made what was meant: quotation marks, blanks, `export`.

`docker run --env-file`, systemd and editors of Windows each keep something of a line that a shell would not. And what
of them other processes of ours are given: everything that a process was started with stands in /proc for whoever takes
it over. Nothing here raises.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import re
from collections.abc import Callable, Mapping, MutableMapping
from urllib.parse import urlsplit

from backend.signatures import without_logins
from model_loader.spellings import TOKEN

_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’"}
_MARK = "\ufeff"


LIBRARIES = (
    "HF_", "HUGGINGFACE_", "TRANSFORMERS_", "MODELSCOPE_", "TRITON_", "PYTORCH_", "TORCH", "CUDA_", "BNB_", "OMP_",
)  # fmt: skip
"""How variables begin that the libraries read which fetch and load a model, or run it. Ours take an empty value for
none; of these libraries some take it for the current folder, or for no compiler."""
OTHERS = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "CC",
    "HUGGING_FACE_HUB_TOKEN",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
)
SWITCHES = (
    "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_IMPLICIT_TOKEN",
    "HF_HUB_DISABLE_SYMLINKS", "HF_HUB_DISABLE_SHARED_BLOBS", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_ENABLE_HF_TRANSFER",
    "HF_XET_HIGH_PERFORMANCE",
)  # fmt: skip
"""Those of them that are on or off. huggingface_hub takes whatever it does not know for off, and says nothing."""
NUMBERS = ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT")
FILES = ("SSL_CERT_FILE",)
ADDRESSES = ("HF_ENDPOINT",)
PROXIES = (("HTTPS_PROXY", "https_proxy"), ("HTTP_PROXY", "http_proxy"))
OTHER_PROXY = ("ALL_PROXY", "all_proxy")
"""httpx makes a way through each that is set, used or not, and ends where it knows none."""
ORDERS = {"CUDA_DEVICE_ORDER": ("PCI_BUS_ID", "FASTEST_FIRST")}
"""CUDA takes any other for the second, and numbers the cards otherwise than nvidia-smi does."""
_NO_WAY = "a proxy that no library here can go through, of SOCKS most often, beside which there is an HTTP port"
EXEMPT = ("NO_PROXY", "no_proxy")
_NOT_EXEMPT = "no list that the libraries can read, as one with [::1] or ::1/128 in it"
OURS = ("PRELABEL_", "LABEL_STUDIO_", "BASIC_AUTH_")
_OF_PYTHON = ("PYTHON", "LANG", "LC_", "LD_", "MALLOC_", "GLIBC_", "COVERAGE_")
_SECRET = re.compile(r"(?i)key|token(?!izers)|secret|pass|_pwd$|_pat$|dsn$|cred|auth|cookie")
ON, OFF = frozenset({"1", "on", "yes", "true"}), frozenset({"0", "off", "no", "false"})
"""How huggingface_hub has them, in whatever case."""


def is_of_libraries(name: str) -> bool:
    """Whether a library of ours reads it: one env file has those beside our own."""
    return name.upper().startswith(LIBRARIES) or name.upper() in OTHERS


def for_readers(environment: Mapping[str, str]) -> dict[str, str]:
    """Of a process that reads what strangers wrote: what Python and the C library need to start, and no more."""
    return {name: value for name, value in environment.items() if name.startswith(_OF_PYTHON)}


def for_engine(environment: Mapping[str, str]) -> dict[str, str]:
    """All but our settings, which it is told, and secrets; those of the libraries that fetch its model stay, and lists
    of folders, in which an @ and two slashes are no login. The settings of its libraries have no end, so what is left
    out has to be named."""
    return {
        name: value
        for name, value in environment.items()
        if not name.upper().startswith(OURS)
        and (is_of_libraries(name) or not (_SECRET.search(name) or _has_login(name, value)))
    }


def _has_login(name: str, value: str) -> bool:
    are_folders = name.endswith("PATH") and "://" not in value
    return not are_folders and without_logins(value) != value


def tidy(environment: MutableMapping[str, str], is_ours: Callable[[str], bool]) -> list[str]:
    """Correct the variables that `is_ours` knows by name; say of each what was dropped, never its value.

    One of libraries that is empty is as if it were not set, but for CUDA_VISIBLE_DEVICES, where it hides all cards. So
    is a proxy for all else where there are those of PROXIES, if no library can use it: desktops set one of SOCKS so.
    """
    said = []
    for raw_name, raw in list(environment.items()):
        name = raw_name.strip(_MARK + " \t\r")
        name = name.removeprefix("export ").strip()
        if not is_ours(name):
            continue
        value, dropped = _value(raw)
        if name != raw_name:
            del environment[raw_name]
            if environment.get(name):
                said.append(f"{name}: it stands there a second time as {raw_name!r}, which is ignored")
                continue
            dropped.insert(0, f"it stood there as {raw_name!r}")
        if dropped:
            environment[name] = value
            said.append(f"{name}: {', '.join(dropped)}. Write NAME=value, without more, in the file it comes from.")
        if not value and is_of_libraries(name) and name != "CUDA_VISIBLE_DEVICES":
            del environment[name]
    if all(any(_is_proxy(environment.get(name, "")) for name in names) for names in PROXIES):
        for name in OTHER_PROXY:
            if not _is_proxy(environment.get(name, "http://")):
                del environment[name]
    return said


def unusable(environment: Mapping[str, str]) -> list[str]:
    """What is to be said of each variable of the libraries whose value they cannot use, and of each of SWITCHES that is
    neither on nor off: they would end the start in words that name no variable, or go on without it. Shows no token."""
    names = {
        **dict.fromkeys(SWITCHES, (_is_switch, "neither on nor off, and would count as off without a word", "1, or 0")),
        **dict.fromkeys(NUMBERS, (_is_number, "no whole number of seconds", "10")),
        **dict.fromkeys(TOKEN, (str.isascii, "no token, which has letters and digits of ASCII alone", "hf_...")),
        **dict.fromkeys(FILES, (os.path.exists, "not there", "/path/to/file.pem")),
        **dict.fromkeys(ADDRESSES, (_is_address, "no address", "https://mirror.example")),
        **dict.fromkeys(EXEMPT, (_are_exempt, _NOT_EXEMPT, "localhost,127.0.0.1,::1")),
        **{name: (_is_proxy, _NO_WAY, "http://HOST:PORT") for names in (OTHER_PROXY, *PROXIES) for name in names},
        **{name: (known.__contains__, f"none of {', '.join(known)}", known[0]) for name, known in ORDERS.items()},
    }
    return [
        f"{name}: its value is {wrong}. Write {name}={example}, or leave it out."
        for name, (is_right, wrong, example) in names.items()
        if (value := environment.get(name, "")) and not is_right(value)
    ]


def _is_proxy(value: str) -> bool:
    scheme, mark, _ = value.partition("://")
    if scheme.lower() in ("socks5", "socks5h"):
        return importlib.util.find_spec("socksio") is not None  # httpx's, which nothing of ours brings
    is_http = not mark or scheme.lower() in ("http", "https")
    return bool(value) and is_http and _can_be_read(value if mark else f"http://{value}")


def _are_exempt(value: str) -> bool:
    return all(map(_is_exempt, (one.strip() for one in value.split(","))))


def _is_exempt(one: str) -> bool:
    """As httpx makes addresses of what is reached without a proxy: a name, or an address of IPv4 or IPv6."""
    try:
        return bool(ipaddress.IPv6Address(one))
    except ValueError:
        return _can_be_read(one if "://" in one else f"all://*{one}")


def _can_be_read(url: str) -> bool:
    import httpx  # here: few have a proxy

    try:
        httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return True


def _is_switch(value: str) -> bool:
    return value.lower() in ON | OFF


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdigit()


def _is_address(value: str) -> bool:
    """As far as a library takes it for one; whether somebody answers there, the download says."""
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _value(raw: str) -> tuple[str, list[str]]:
    """Without what is around it; what that was."""
    value = raw.strip()
    dropped = ["blanks around its value were dropped"] if value != raw else []
    if len(value) >= 2 and _QUOTES.get(value[0]) == value[-1]:
        value = value[1:-1].strip()
        dropped.append("quotation marks around its value were dropped")
    return value, dropped
