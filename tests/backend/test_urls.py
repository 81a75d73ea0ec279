from __future__ import annotations

import pytest

from backend.errors import ImageError
from backend.urls import as_browsers_read, join_location, parse_http_url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        pytest.param("http://example.com", "http://example.com/", id="no path"),
        pytest.param("HTTPS://Example.COM:443/A.jpg", "https://example.com/A.jpg", id="capitals and default port"),
        pytest.param("http://example.com./a", "http://example.com/a", id="final dot"),
        pytest.param(
            "http://example.com/a b/图.jpg", "http://example.com/a%20b/%E5%9B%BE.jpg", id="space and Chinese path"
        ),
        pytest.param(
            "http://example.com/%E5%9B%BE?x=1%2F2", "http://example.com/%E5%9B%BE?x=1%2F2", id="encoded stays"
        ),
        pytest.param("http://例子.测试/a", "http://xn--fsqu00a.xn--0zwm56d/a", id="Chinese host"),
        pytest.param("http://example.com/a#part", "http://example.com/a", id="fragment dropped"),
        pytest.param("http://[2001:DB8::1]:8080/a", "http://[2001:db8::1]:8080/a", id="IPv6"),
        pytest.param("http://example.com?x=1", "http://example.com/?x=1", id="query without path"),
    ],
)
def test_an_address_is_normalised(text: str, url: str) -> None:
    assert parse_http_url(text).url == url


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("http://user@example.com/", id="user"),
        pytest.param("http://user:pass@example.com/", id="user and password"),
        pytest.param(r"http://127.0.0.1:6666\@1.1.1.1/", id="backslash before at"),
        pytest.param("http://example.com\\.evil.com/", id="backslash in host"),
        pytest.param("http://example.com/a\\b", id="backslash in path"),
        pytest.param("http://exa mple.com/", id="space in host"),
        pytest.param("http://example.com/a\nb", id="line break"),
        pytest.param("http://example.com/a\x00b", id="NUL"),
        pytest.param("http://example.com:0/", id="port zero"),
        pytest.param("http://example.com:65536/", id="port too large"),
        pytest.param("http://example.com:８０/", id="full-width port"),
        pytest.param("http://example.com:80:80/", id="two ports"),
        pytest.param("http:///a", id="no host"),
        pytest.param("http://%31%32%37.0.0.1/", id="encoded host"),
        pytest.param("http://[fe80::1%25eth0]/", id="zone"),
        pytest.param("http://[::1/", id="open bracket"),
        pytest.param("http://127.1/", id="short loopback"),
        pytest.param("http://0x7f.1/", id="hexadecimal loopback"),
        pytest.param("http://0x7f000001/", id="hexadecimal number"),
        pytest.param("http://2130706433/", id="decimal number"),
        pytest.param("http://0177.0.0.1/", id="octal loopback"),
        pytest.param("http://127.0.0.1.5/", id="five numbers"),
        pytest.param("http://a..b/", id="empty label"),
        pytest.param("http://-a.com/", id="label begins with a hyphen"),
        pytest.param("http://" + "a" * 64 + ".com/", id="long label"),
        pytest.param("http://a.com/\ud800", id="lone surrogate"),
    ],
)
def test_an_address_that_can_be_read_in_two_ways_is_refused(text: str) -> None:
    with pytest.raises(ImageError) as caught:
        parse_http_url(text)
    assert caught.value.kind == "blocked"


def test_full_width_digits_become_the_address_they_stand_for() -> None:
    assert parse_http_url("http://１２７。０。０。１/").origin.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("location", "url"),
    [
        pytest.param("https://b.com/x?y", "https://b.com/x?y", id="absolute"),
        pytest.param("//b.com/x", "http://b.com/x", id="host only"),
        pytest.param("/x", "http://a.com:81/x", id="path"),
        pytest.param("x.jpg?y", "http://a.com:81/folder/x.jpg?y", id="relative"),
    ],
)
def test_a_redirect_is_joined(location: str, url: str) -> None:
    assert join_location(parse_http_url("http://a.com:81/folder/page?q=/z"), location).url == url


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://a/b", "javascript:1", "//user@b.com/", "\\\\b\\c"])
def test_a_redirect_off_the_web_is_refused(location: str) -> None:
    with pytest.raises(ImageError) as caught:
        join_location(parse_http_url("http://a.com/"), location)
    assert caught.value.kind == "blocked"


BROWSERS_READ = {
    "no scheme": ("//img.alicdn.com/a.jpg", "https://img.alicdn.com/a.jpg"),
    "no scheme, a port": ("//img.example.com:8443/a.jpg", "https://img.example.com:8443/a.jpg"),
    "capitals": ("HTTP://IMG.Example.com/A.jpg", "http://img.example.com/A.jpg"),
    "blanks around": ("  https://a.com/x.jpg \t", "https://a.com/x.jpg"),
    "line breaks around": ("\r\nhttps://a.com/x.jpg\n", "https://a.com/x.jpg"),
    "a line break within": ("https://a.com/x\r\n/y.jpg", "https://a.com/x/y.jpg"),
    "blanks of other scripts": ("\u3000\xa0https://a.com/x.jpg\u3000", "https://a.com/x.jpg"),
    "what Excel leaves": ("\ufeffhttps://a.com/x.jpg\u200b", "https://a.com/x.jpg"),
    "blanks before no scheme": (" //a.com/x.jpg", "https://a.com/x.jpg"),
    "backslashes": ("https:\\\\a.com\\x\\y.jpg", "https://a.com/x/y.jpg"),
    "a backslash in the path": ("http://a.com/x\\y.jpg", "http://a.com/x/y.jpg"),
    "mixed slashes without a scheme": ("/\\a.com/x.jpg", "https://a.com/x.jpg"),
    "a backslash in the query stays": ("http://a.com/?d=x\\y", "http://a.com/?d=x%5Cy"),
    "too many slashes": ("https:////a.com/x.jpg", "https://a.com/x.jpg"),
    "a backslash before at": ("http://b.com\\@a.com/x.jpg", "http://b.com/@a.com/x.jpg"),
    "a Chinese host": ("//例子.测试/图 1.jpg", "https://xn--fsqu00a.xn--0zwm56d/%E5%9B%BE%201.jpg"),
    "a full-width dot": ("//例子。测试/a.jpg", "https://xn--fsqu00a.xn--0zwm56d/a.jpg"),
    "a sharp s": ("//straße.de/a.jpg", "https://xn--strae-oqa.de/a.jpg"),
    "blanks and Chinese in the path": ("https://a.com/连衣裙 1.jpg?名=a b", None),
    "escaped for a page": ("https://a.com/x?w=1&amp;h=2&#38;q=3", "https://a.com/x?w=1&h=2&q=3"),
    "a bare percent sign": ("https://a.com/100%.jpg", "https://a.com/100%.jpg"),
    "a suffix of a shop": ("//img.alicdn.com/i1/O1CN01.jpg_400x400q90.jpg_.webp", None),
    "a data address": ("data:image/png;base64,aGVs\nbG8=", None),
}


@pytest.mark.parametrize(("text", "url"), BROWSERS_READ.values(), ids=BROWSERS_READ.keys())
def test_an_address_is_read_as_browsers_read_it(text: str, url: str | None) -> None:
    read = as_browsers_read(text)
    if read.startswith("data:"):
        assert read == "data:image/png;base64,aGVsbG8="
        return
    found = parse_http_url(read).url
    assert found.isascii()
    assert url in (None, found)


@pytest.mark.parametrize(
    "text", ["/data/upload/1/a.jpg", "a.jpg", "s3://b/a.jpg", "\\\\server\\share\\a.jpg", "C:/a.jpg"]
)
def test_what_is_no_web_address_does_not_become_one(text: str) -> None:
    assert as_browsers_read(text) == text
