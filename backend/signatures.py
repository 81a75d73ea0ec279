"""Which parts of an address open it to whoever has them: keys and signatures in its query and in its path, and logins.

A query is secret if one of its names or values looks so, however often it is escaped; an expiry alone says that a
signature is beside it. In a path a folder is one where it says so (`token=...`, `s--...--`, a JWT), or the one before
it does (`token/...`), where what comes next is what a proxy of pictures is told to do (thumbor, imgproxy, camo), or
where it is a digest and a time is beside it: CDNs sign /TIME/DIGEST/file and /DIGEST/TIME/file, some with a dash
between, while a digest without a time is how many sites name their files.
A login is what stands between two slashes and an @, however they are escaped, with no blank in it; behind http: and at
the beginning of an address what has a colon in it is one with fewer slashes, too: browsers read it so.
Pure; nothing raises, and all of it is linear in the length.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from collections.abc import Callable, Iterator
from urllib.parse import unquote

HIDDEN = "***"

MARK_IN_LOGIN = re.compile(r"(?i)((?:[a-z][a-z0-9+.-]*:)?//)[^/?#@]*[?#][^/@]*@")
"""An address whose query would begin within a login: it leads nowhere, and what looks like its host is a secret."""

_CHINESE_NAME = "密码|口令|密钥|秘钥|私钥|令牌|提取码|授权码|验证码|访问码|凭证|凭据|签名"
_SECRET_NAME = re.compile(
    r"(?i)sig|cred|token|secret|pass|pwd|key|auth|hmac|hash|md5|digest|jwt|ticket|sess|cookie|nonce|hdn|verify|expir"
    r"|_upt|(?<![a-z])code|^(st|sk|sv|se|sp|hm|oh|policy|ak|tk|pw|psw|pin|otp|sid|sas|mac)$"
    rf"|{_CHINESE_NAME}"
)
_SECRET_VALUE = re.compile(
    r"eyJ[\w-]{6}|[0-9a-fA-F]{24,}|[A-Za-z0-9_+=-]{40,}|[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
)
_LONG_WORD = re.compile(r"[A-Za-z0-9_-]{16,}")
_LABEL_STUDIO_PATH = re.compile(r"/(?:local-files|resolve|presign)/?$")
_LABEL_STUDIO_NAMES = frozenset({"d", "fileuri"})
"""Its own addresses of files: a path, and a storage address in base64."""

_TIME = r"(?:1[0-9]{9}(?:[0-9]{3})?|20[0-9]{10}(?:[0-9]{2})?)"  # Unix s or ms, or YYYYMMDDhhmm[ss]
_HEX_TIME = r"[4-9a-fA-F][0-9a-fA-F]{7}"  # of 2004 and later: a date such as 20240131 would be one of 1987
_HEX_DIGEST = r"(?:[0-9a-fA-F]{32}){1,4}|[0-9a-fA-F]{40}"  # of MD5 and SHA-256, 384 and 512, and of SHA-1
_BASE64_DIGEST = r"(?=[\w-]{0,86}[A-Z])(?=[\w-]{0,86}[a-z])(?:[\w-]{22}|[\w-]{27}|[\w-]{43}|[\w-]{64}|[\w-]{86})={0,2}"
_DIGEST = f"(?:{_HEX_DIGEST}|{_BASE64_DIGEST})"
_BETWEEN = "(?:[/,_-]|%2[CcFf])(?:/|%2[Ff])?"
_SIGNED_FOLDERS = re.compile(
    rf"(?<=/)(?:(?:{_TIME}|{_HEX_TIME}){_BETWEEN}{_DIGEST}|{_DIGEST}{_BETWEEN}(?:{_TIME}|{_HEX_TIME}))(?=/|$)", re.ASCII
)
_MIXED = r"(?=[\w-]{0,88}[A-Z])(?=[\w-]{0,88}[a-z])"
_WITH_DIGITS = rf"{_MIXED}(?=[\w-]{{0,88}}[0-9_-])"
_ORDER = r"[a-z_]{1,20}:|plain/|(?:fit|fill|fill-down|force|auto)/[0-9]+/|https?[:/]|aHR0|68747470"
"""What a proxy is told to do, or the address of the picture: escaped, in base64, in hexadecimal digits."""
_SIGNED_ORDER = re.compile(
    rf"/({_MIXED}(?:[\w-]{{22}}|[\w-]{{27}}|[\w-]{{43}})(?:=|%3[Dd]){{1,2}}(?=/|$)"
    rf"|(?:{_HEX_DIGEST}|{_WITH_DIGITS}[\w-]{{10,88}})(?=/(?:{_ORDER})))",
    re.ASCII,
)
_KEY_NAME = (
    r"(?:[a-z]{1,10}[_-]?)?token|(?:x[_-])?(?:api|access|secret|auth|sign|private)[_-]?key(?:[_-]?id)?|signature|sig"
    r"|hmac|jwt|secret|passw(?:or)?d|pwd|auth|session|ticket|credentials?"
    rf"|{_CHINESE_NAME}"
)
_BETWEEN_FOLDERS = r"(?:/|\\|%(?:25){0,3}(?:2[Ff]|5[Cc]))"
_FOLDER = rf"(?:(?!{_BETWEEN_FOLDERS})[^/])"
_NAMED_KEY = re.compile(
    rf"({_BETWEEN_FOLDERS}(?i:{_KEY_NAME}){_BETWEEN_FOLDERS}+)"
    rf"(?!{_FOLDER}*\.[a-zA-Z]{{3,4}}(?:{_BETWEEN_FOLDERS}|$))({_FOLDER}+)"
)
_NAMED_IN_FOLDER = re.compile(rf"(?i:{_KEY_NAME}):.+")
_BY_FORM = re.compile(r"(?<=/p/)[\w-]{20,}(?=/n/[^/]+/b/)|(?<=/ks/)[\w=%-]{40,}(?=/|$)", re.ASCII)
"""Oracle's pre-authenticated requests; sessions of Kaltura."""
_ENCODED = re.compile(r"(?<![\w+-])(?:aHR0c[\w+/=-]{5,}|68747470(?:[0-9a-fA-F]{2}){5,})", re.ASCII)
"""An address that begins with http, in base64, which some cut into folders, or in hexadecimal digits."""
_SAYS_SO = re.compile(
    r"s--[\w-]{6,64}--|eyJ[\w-]+\.eyJ[\w.-]+|\(S\([\w-]+\)\)|bot[0-9]+:[\w-]{30,}", re.ASCII
)  # Cloudinary, a JWT, a session of ASP.NET, a bot of Telegram
_PARTS = re.compile(r"[&;~#?]")
_ITEMS = re.compile(r"[,|]")
_MAX_ESCAPED = 4  # times over

_ESCAPED = "%(?:25){0,3}"
_SLASH = rf"(?:/|\\{{1,4}}/?|{_ESCAPED}(?:2F|5C))"
_SLASHES = rf"{_SLASH}{{2}}"
_COLON, _AT = f"(?::|{_ESCAPED}3A)", f"(?:@|{_ESCAPED}40)"
_IN_IT = rf"(?!{_ESCAPED}(?:2F|5C)|[\"'][,:\]}}])[^/\\\s]"
# With one colon: what is written to be slow, http:http:http:, would be gone through from each of them.
_SHORT = rf"[^/\\\s:@\"']{{1,64}}{_COLON}[^/\\\s:@\"']{{0,128}}{_AT}"
_FIRST_LOGIN = re.compile(_SHORT)
_LOGIN = re.compile(
    rf"(?i)(?P<scheme>[a-z0-9+.-]{_COLON}{_SLASHES})(?:{_IN_IT}){{0,256}}{_AT}"
    rf"|(?P<http>\bhttps?{_COLON}{_SLASH}?)(?!{_SLASH}){_SHORT}"
    rf"|(?P<slashes>{_SLASHES})(?:(?:(?!{_COLON}){_IN_IT}){{1,64}}{_COLON}(?:{_IN_IT}){{0,256}}{_AT}"
    r"|[^/\\\s@:]{1,64}:(?![0-9]{1,5}(?:[/?#\"']|$))[^\s@\"']{0,128}@)"  # a slash in the password, and no port
)


def query_is_secret(query: str, path: str = "") -> bool:
    """Whether what stands after the "?" or "#" of an address with this path may be known to nobody else. A value may be
    an escaped address with a query or a login of its own: that is how proxies of pictures are asked."""
    ours = _LABEL_STUDIO_NAMES if _LABEL_STUDIO_PATH.search(path) else frozenset()
    parts = (part for text in _unescaped(query) for part in _PARTS.split(text) if part.partition("=")[0] not in ours)
    return any(map(_is_secret, parts)) or _LOGIN.search(query) is not None


def _hidden(secret: str) -> str:
    return HIDDEN


def without_logins(text: str, shown: Callable[[str], str] = _hidden) -> str:
    """`text`, in which there may be addresses, with `shown` of the user name and password of each in its place."""
    if "@" not in text and "40" not in text:  # nearly always, and looking for a login takes longer than all the rest
        return text
    return _LOGIN.sub(lambda found: f"{found['scheme'] or found['http'] or found['slashes']}{shown(found[0])}@", text)


def unsigned_path(path: str, shown: Callable[[str], str] = _hidden) -> str:
    """`path`, or an address up to its query, with `shown` of every key, login and signature in its place."""
    shorter = _unsigned(path, shown)
    return _ENCODED.sub(lambda found: shown(found[0]) if any(map(_opens, _decoded(found[0]))) else found[0], shorter)


def _unsigned(path: str, shown: Callable[[str], str]) -> str:
    """Without a look at what stands in encoded addresses."""
    if first := _FIRST_LOGIN.match(path):
        path = f"{shown(first[0])}@{path[first.end() :]}"
    shorter = _NAMED_KEY.sub(lambda found: found[1] + shown(found[2]), without_logins(path, shown))
    shorter = _SIGNED_FOLDERS.sub(lambda found: shown(found[0]), shorter)
    shorter = _SIGNED_ORDER.sub(lambda found: f"/{shown(found[1])}", shorter)
    shorter = _BY_FORM.sub(lambda found: shown(found[0]), shorter)
    return "/".join(shown(folder) if _is_signed(folder) else folder for folder in shorter.split("/"))


def _opens(address: str) -> bool:
    """Whether something in a whole address is to be known to nobody else."""
    path, *query = re.split("[?#]", address, maxsplit=1)
    return _unsigned(path, _hidden) != path or any(query_is_secret(one, path) for one in query)


def _decoded(text: str) -> Iterator[str]:
    """What an encoded address may say: a slash in base64 is one of its letters, or where it was cut into folders."""
    if text.startswith("68"):
        yield bytes.fromhex(text).decode("utf-8", "replace")
        return
    for one in {text, text.replace("/", ""), text.partition("/")[0]}:
        letters = one.translate(str.maketrans("-_", "+/", "="))
        whole = letters[: len(letters) - (len(letters) % 4 == 1)]  # no number of bytes has one letter over
        with contextlib.suppress(binascii.Error):
            yield base64.b64decode(whole + "=" * (-len(whole) % 4)).decode("utf-8", "replace")


def _unescaped(text: str) -> list[str]:
    """`text`, and what it is once its escapes are read, and theirs."""
    found = [text]
    while "%" in found[-1] and len(found) <= _MAX_ESCAPED and (inner := unquote(found[-1])) != found[-1]:
        found.append(inner)
    return found


def _is_secret(part: str) -> bool:
    """As a whole, or an item of it that has a name of its own: `w=400,token=...`."""
    items = [item for item in _ITEMS.split(part) if "=" in item]
    return _looks_secret(part) or (len(items) > 1 and any(map(_looks_secret, items)))


def _looks_secret(part: str) -> bool:
    name, _, value = part.partition("=")
    value = unquote(value or name)
    says = unquote(part if "{" in part else name)  # the names in JSON are as good
    if _SECRET_NAME.search(says) or _SECRET_VALUE.search(value):
        return True
    return any(map(_is_random, _LONG_WORD.findall(value)))


def _is_random(word: str) -> bool:
    """Capitals, small letters and digits in one long word."""
    return not (word.isupper() or word.islower()) and any(map(str.isdigit, word))


def _is_signed(folder: str) -> bool:
    if _SAYS_SO.fullmatch(folder):
        return True
    text = _unescaped(folder)[-1]
    if _NAMED_IN_FOLDER.fullmatch(text):
        return True
    return "=" in text and any(_is_secret(part) for part in _PARTS.split(text) if "=" in part)
