"""One HTTP exchange: a checked address in, the body or the next address out, within the byte and time limits.

Sends the Label Studio token only where `sources.may_send_token` says so. Follows no redirect and retries nothing
itself; `fetch` does. We ask for no Content-Encoding; gzip and deflate are undone all the same, and the byte limit
counts what comes out. Ignores the environment's proxies, which would look names up for us; see `proxy`.
Raises ImageError, and Retry for what may work a second time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import ssl
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import anyio
import httpcore

from backend.errors import ImageError
from backend.images import replies
from backend.images.addresses import GuardedNetwork, Resolver
from backend.images.policy import ImagePolicy, Network
from backend.images.proxy import Proxy
from backend.images.replies import Retry
from backend.images.sources import may_send_token
from backend.label_studio.tls import tls_context
from backend.label_studio.tokens import ApiKey
from backend.urls import Target, join_location

_HEADERS: Mapping[str, str] = {
    "User-Agent": "prelabel",
    "Accept": "image/jpeg,image/png,image/webp,*/*;q=0.5",  # Label Studio answers 406 where */* is missing
    "Accept-Encoding": "identity",
}
# anyio's and ssl's where httpcore lets them through (a TLS peer that hangs up, for one).
_EXCHANGE_ERRORS = (
    httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError, OSError,
    anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream,
)  # fmt: skip
_KEEP_ALIVE_S = 15.0
_DNS_THREADS = 16
_PIECE_BYTES = 64 * 1024
_MAX_TINY_CHUNKS = 256
_MIN_CHUNK_BYTES = 512
"""On average, beside as many of any size. Each takes the event loop 50 µs, and it looks at nothing else meanwhile."""
_MAX_TOKEN_REPLY_BYTES = 64 * 1024
_MAX_SAID_BYTES = 64 * 1024


class Transfer:
    def __init__(self, policy: ImagePolicy, resolve: Resolver, network: httpcore.AsyncNetworkBackend) -> None:
        self._policy = policy
        self._limits = policy.limits
        self._threads = ThreadPoolExecutor(_DNS_THREADS, thread_name_prefix="image-dns")
        context = tls_context(policy.extra_ca_file)

        def pool(allowed: tuple[Network, ...] | None, proxy: Proxy | None) -> httpcore.AsyncConnectionPool:
            guarded = GuardedNetwork(resolve, self._threads, allowed, network, proxy)
            return httpcore.AsyncConnectionPool(
                ssl_context=context,
                max_connections=self._limits.max_total + self._limits.max_interactive,
                keepalive_expiry=_KEEP_ALIVE_S,
                network_backend=guarded,
            )

        self._public = pool(policy.allowed_networks, policy.proxy)
        # Its own pool, so that "any address" holds for Label Studio's exact origin and nothing else.
        self._label_studio = pool(None, None)
        self._api_key = ApiKey(policy.api_key, self._new_access_token)
        _hide_reply_headers()

    async def get(self, target: Target) -> bytes | Target:
        """Return the body, or where the reply redirects to."""
        authorization = await self._api_key.header() if may_send_token(target, self._policy) else None
        headers = _with(_HEADERS, self._policy.host_headers.of(target.origin))
        if authorization:
            headers = _with(headers, {"Authorization": authorization})
        async with self._exchange("GET", target, headers) as reply:
            if reply.status in replies.SUCCESS:
                return await self._body(target, reply, self._limits.max_bytes)
            if reply.status in replies.REDIRECTS:
                return self._next(target, _header(reply, "location"))
            raise await self._refusal(target, reply, authorization)

    async def aclose(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self._public.aclose()
        await self._label_studio.aclose()

    @asynccontextmanager
    async def _exchange(
        self, method: str, target: Target, headers: Mapping[str, str], content: bytes | None = None
    ) -> AsyncIterator[httpcore.Response]:
        limits = self._limits
        timeout = {"connect": limits.connect_s, "pool": limits.connect_s,
                   "read": limits.first_byte_s, "write": limits.first_byte_s}  # fmt: skip
        pool = self._label_studio if self._is_label_studio(target) else self._public
        try:
            async with pool.stream(
                method,
                _httpcore_url(target),
                headers=[("Host", target.host_header), *headers.items()],
                content=content,
                extensions={"timeout": timeout},
            ) as reply:
                yield reply
        except _EXCHANGE_ERRORS as error:
            with_proxy = pool is self._public and self._policy.proxy is not None
            raise replies.exchange_failure(
                target.origin.host, error, limits.num_retries, with_proxy=with_proxy
            ) from None

    async def _body(self, target: Target, reply: httpcore.Response, max_bytes: int) -> bytes:
        host, clock = target.origin.host, asyncio.get_running_loop().time
        length = _header(reply, "content-length")
        if length.isascii() and length.isdigit() and int(length[:20]) > max_bytes:
            raise _too_large(max_bytes)
        inflater = _inflater(_header(reply, "content-encoding"), host)
        is_chunked = bool(_header(reply, "transfer-encoding"))
        started, num_received, num_chunks, body = clock(), 0, 0, bytearray()
        async for chunk in reply.aiter_stream():
            num_received, num_chunks = num_received + len(chunk), num_chunks + is_chunked
            if num_chunks > _MAX_TINY_CHUNKS + num_received // _MIN_CHUNK_BYTES:
                raise ImageError("unreachable", f"{host} sends the picture in thousands of tiny pieces.")
            for piece in _pieces(chunk, inflater, host):
                if max(num_received, len(body) + len(piece)) > max_bytes:
                    raise _too_large(max_bytes)
                body += piece
                if inflater is not None:
                    await asyncio.sleep(0)  # one read may inflate to all that is allowed
            elapsed_s = clock() - started
            if elapsed_s > self._limits.first_byte_s and num_received < elapsed_s * self._limits.min_bytes_per_s:
                raise ImageError("timeout", f"{host} sends the picture too slowly.", retryable=True)
        if inflater is not None and not inflater.eof:
            raise _unreadable(host, "its compression is cut off")
        return bytes(body)

    def _next(self, target: Target, location: str) -> Target:
        if not location:
            raise ImageError("unreachable", f"{target.origin.host} redirects to nowhere.")
        following = join_location(target, location)
        if self._is_label_studio(target) and "/user/login" in following.decoded_path:
            raise replies.label_studio_key_missing()
        if target.origin.scheme == "https" and following.origin.scheme == "http":
            raise ImageError("blocked", f"{target.origin.host} redirects from https to http, which is refused.")
        return following

    async def _refusal(self, target: Target, reply: httpcore.Response, authorization: str | None) -> Exception:
        site = self._policy.label_studio.site
        label_studio = self._is_label_studio(target)
        if label_studio and site is not None and reply.status in (404, 410, 500):
            path = target.decoded_path.removeprefix(site.base)
            if (lacks := replies.label_studio_lacks(path, reply.status, await self._said(target, reply))) is not None:
                return lacks
        if label_studio and reply.status == 401:
            if authorization is None:
                return replies.label_studio_key_missing()
            if self._api_key.can_refresh:
                self._api_key.forget(authorization)
                return Retry(replies.label_studio_refusal(401), times=1)
            return replies.label_studio_refusal(401)
        if label_studio and reply.status == 403:
            return replies.label_studio_refusal(403)
        retry_after = _header(reply, "retry-after")
        return replies.status_failure(target.origin.host, reply.status, self._limits.num_retries, retry_after)

    async def _said(self, target: Target, reply: httpcore.Response) -> bytes:
        """The body of a refusal; empty if it cannot be read, which the status outweighs."""
        try:
            return await self._body(target, reply, _MAX_SAID_BYTES)
        except ImageError:
            return b""

    async def _new_access_token(self, refresh_token: str) -> str:
        site = self._policy.label_studio.site
        assert site is not None
        target = site.target("/api/token/refresh/")
        headers = {**_HEADERS, "Accept": "application/json", "Content-Type": "application/json"}
        content = json.dumps({"refresh": refresh_token}).encode("ascii")
        async with self._exchange("POST", target, headers, content) as reply:
            if reply.status in (401, 403):
                raise replies.label_studio_refusal(401)
            if reply.status >= 500:
                raise replies.status_failure(site.origin.host, reply.status, times=self._limits.num_retries)
            body = await self._body(target, reply, _MAX_TOKEN_REPLY_BYTES)
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        access = answer.get("access") if isinstance(answer, dict) else None
        if not isinstance(access, str) or not access.isascii() or not access.isprintable() or not access:
            raise ImageError("label_studio_auth", "LABEL_STUDIO_URL does not answer as Label Studio does: check it.")
        return access

    def _is_label_studio(self, target: Target) -> bool:
        site = self._policy.label_studio.site
        return site is not None and target.origin == site.origin


def _with(headers: Mapping[str, str], more: Mapping[str, str]) -> Mapping[str, str]:
    """`headers` and `more`, which counts where both have a name, however that is written."""
    names = {name.lower() for name in more}
    return {**{name: value for name, value in headers.items() if name.lower() not in names}, **more}


class _ReplyHeaderFilter(logging.Filter):
    """Drops httpcore's DEBUG records of what a host replied: a Location may be a presigned address."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not re.match(r"receive_response_\w+\.(complete|failed) ", str(record.msg))


_reply_header_filter = _ReplyHeaderFilter()


def _hide_reply_headers() -> None:
    for name in ("httpcore.http11", "httpcore.http2"):
        logging.getLogger(name).addFilter(_reply_header_filter)  # adding it twice is the same as once


def _httpcore_url(target: Target) -> httpcore.URL:
    """Hand over the parts as they were parsed: httpcore's own parser must not get a second opinion."""
    origin = target.origin
    return httpcore.URL(
        scheme=origin.scheme.encode(), host=origin.host.encode(), port=origin.port, target=target.path.encode()
    )


def _header(reply: httpcore.Response, name: str) -> str:
    """Return the last header called `name`, as UTF-8 where it is (servers send raw Chinese paths in Location)."""
    wanted = name.encode("ascii")
    values = [value for key, value in reply.headers if key.lower() == wanted]
    return values[-1].decode("utf-8", "replace") if values else ""


def _too_large(max_bytes: int) -> ImageError:
    return ImageError("too_large", f"The picture's file is larger than the limit of {max_bytes // 2**20} MB.")


def _inflater(encoding: str, host: str) -> zlib._Decompress | None:
    match encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        case "deflate":
            return zlib.decompressobj()
    raise _unreadable(host, "its Content-Encoding was not asked for")


def _pieces(data: bytes, inflater: zlib._Decompress | None, host: str) -> Iterator[bytes]:
    """What `data` inflates to, in pieces so small that a bomb is found out before it is large."""
    if inflater is None:
        yield data
        return
    try:
        while data and not inflater.eof:
            yield inflater.decompress(data, _PIECE_BYTES)
            data = inflater.unconsumed_tail
    except zlib.error:
        raise _unreadable(host, "its compression is broken") from None


def _unreadable(host: str, reason: str) -> ImageError:
    return ImageError("corrupt", f"The reply of {host} cannot be read: {reason}.")
