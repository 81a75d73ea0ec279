"""What h11 is given to parse: what costs more than its length is refused by name, however it comes and wherever in a
request it stands, and nothing else is."""

from __future__ import annotations

import h11
import pytest

from backend.api.http_limits import MAX_HEADERS, MAX_LINES, PIECE_BYTES, LimitedHttp
from tests.counted import num_calls

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
SIZED = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
NUM_LINES = 15_000
HOSTILE = {
    "a head of short lines": GET + b"a:\r\n" * NUM_LINES + b"\r\n",
    "one without carriage returns": GET + b"a:\n" * NUM_LINES + b"\n",
    "one of folded lines": GET + b"a: b\r\n" + b" c\r\n" * NUM_LINES + b"\r\n",
    "one that has no end": GET + b"a:\r\n" * NUM_LINES,
    "one behind a body": SIZED % 2 + b"{}" + GET + b"a:\r\n" * NUM_LINES + b"\r\n",
    "trailers": CHUNKED + b"0\r\n" + b"a:\r\n" * NUM_LINES + b"\r\n",
    "trailers behind a chunk": CHUNKED + b"2\r\n{}\r\n0\r\n" + b"a:\r\n" * NUM_LINES + b"\r\n",
}
ORDINARY = {
    "a head": GET + b"\r\n",
    "as many headers as there may be": GET + b"x-name: value\r\n" * (MAX_HEADERS - 1) + b"\r\n",
    "a body of many lines": SIZED % 30_000 + b"\n" * 30_000,
    "a chunk of many lines": CHUNKED + b"7530\r\n" + b"\n" * 30_000 + b"\r\n0\r\n\r\n",
    "some trailers": CHUNKED + b"2\r\n{}\r\n0\r\n" + b"x-name: value\r\n" * 20 + b"\r\n",
}
SHARES = pytest.mark.parametrize("share", [10**6, 1_000, 7], ids=["at once", "in parts", "in small parts"])


def events(http: LimitedHttp, sent: bytes, share: int) -> list[object]:
    """All that `sent`, in parts of `share` bytes, is read as; between two requests there is a reply."""
    found: list[object] = []
    for start in range(0, len(sent), share):
        http.receive_data(sent[start : start + share])
        while (event := http.next_event()) is not h11.NEED_DATA:
            if event is h11.PAUSED:
                http.send(h11.Response(status_code=200, headers=[]))
                http.send(h11.EndOfMessage())
                http.start_next_cycle()
            else:
                found.append(event)
    return found


@SHARES
@pytest.mark.parametrize("sent", HOSTILE.values(), ids=HOSTILE)
def test_more_lines_than_a_head_may_have_are_refused_by_name(sent: bytes, share: int) -> None:
    http = LimitedHttp()
    with pytest.raises(h11.RemoteProtocolError):
        events(http, sent, share)
    assert http.refusal is not None
    assert http.refusal.http_status == 431


@pytest.mark.parametrize("sent", HOSTILE.values(), ids=HOSTILE)
def test_before_they_cost_more_than_a_few_heads_would(sent: bytes) -> None:
    def read() -> None:
        with pytest.raises(h11.RemoteProtocolError):
            events(LimitedHttp(), sent, len(sent))

    assert num_calls(read) < 20 * (MAX_LINES + PIECE_BYTES)


@SHARES
@pytest.mark.parametrize("sent", ORDINARY.values(), ids=ORDINARY)
def test_what_is_ordinary_is_read_whole_and_so_is_what_comes_behind_it(sent: bytes, share: int) -> None:
    found = events(LimitedHttp(), sent + GET + b"\r\n", share)
    body = b"".join(event.data for event in found if isinstance(event, h11.Data))
    assert len(body) in (0, 2, 30_000)
    kinds = [type(event) for event in found if not isinstance(event, h11.Data)]
    assert kinds == [h11.Request, h11.EndOfMessage] * 2
