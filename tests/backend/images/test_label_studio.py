"""Pictures that Label Studio serves, and where its token goes."""

from __future__ import annotations

import asyncio
import base64
import json
import time

import pytest

from backend.errors import SettingsError
from backend.images import ImageFetcher, ImagePolicy
from tests.backend.images.conftest import PATIENT, everything_is_loopback, fetch, policy, refusal
from tests.backend.images.pictures import png
from tests.backend.images.site import Answer, Site, in_turn, redirect, reply

NO_ROW = b"""{"status_code": 500, "detail": "'NoneType' object has no attribute 'has_permission'"}"""
LEGACY = "0123456789abcdef0123456789abcdef01234567"


def jwt(lifetime_s: float = 3600, token_type: str = "refresh", mark: str = "") -> str:
    claims = {"token_type": token_type, "exp": time.time() + lifetime_s, "mark": mark}
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"eyJhbGciOiJIUzI1NiJ9.{body}.c2lnbmF0dXJl"


def rules(site: Site, api_key: str = LEGACY, base: str = "") -> ImagePolicy:
    """Label Studio is on loopback and nothing else may be."""
    return ImagePolicy(label_studio_url=site.url(base), api_key=api_key, limits=PATIENT)


def granted(token: str) -> Answer:
    return reply(json.dumps({"access": token}).encode(), Content_Type="application/json")


@pytest.mark.parametrize(
    ("field", "path"),
    [
        pytest.param("/data/upload/3/ab-dress.png", "/data/upload/3/ab-dress.png", id="upload"),
        pytest.param("upload/3/ab-dress.png", "/data/upload/3/ab-dress.png", id="upload in an export"),
        pytest.param("/data/upload/3/连衣裙 1.png", "/data/upload/3/%E8%BF%9E%E8%A1%A3%E8%A3%99%201.png", id="Chinese"),
        pytest.param("/data/local-files/?d=a/b.png", "/data/local-files/", id="local file"),
        pytest.param("/storage-data/uploaded/?filepath=upload/1/a.png", "/storage-data/uploaded/", id="storage proxy"),
    ],
)
def test_a_file_of_label_studio_is_asked_for_with_the_token(site: Site, field: str, path: str) -> None:
    site.routes[path] = reply(png())
    fetch(field, rules(site))
    assert site.requests[0].headers["authorization"] == f"Token {LEGACY}"


def test_label_studio_below_a_base_path_is_found(site: Site) -> None:
    site.routes["/base/data/upload/3/a.png"] = reply(png())
    fetch("/data/upload/3/a.png", rules(site, base="/base/"))
    fetch("/base/data/upload/3/a.png", rules(site, base="/base"))
    assert [request.headers["authorization"] for request in site.requests] == [f"Token {LEGACY}"] * 2


@pytest.mark.parametrize("uri", ["s3://bucket/图/a.png", "gs://bucket/a.png", "azure-blob://box/a.png"])
def test_cloud_storage_goes_through_the_presign_address(site: Site, other_site: Site, uri: str) -> None:
    other_site.routes["/signed.png"] = reply(png())
    site.routes["/tasks/7/presign/"] = redirect(other_site.url("/signed.png?X-Signature=secret"), 303)
    with_bucket = policy(label_studio_url=site.url(), api_key=LEGACY)
    assert fetch(uri, with_bucket, task_id=7).picture.rgb
    encoded = site.requests[0].path.partition("fileuri=")[2]
    assert base64.urlsafe_b64decode(encoded).decode() == uri
    assert site.requests[0].headers["authorization"] == f"Token {LEGACY}"
    assert "authorization" not in other_site.requests[0].headers


def test_cloud_storage_without_a_task_is_unsupported(site: Site) -> None:
    assert refusal("s3://bucket/a.png", rules(site)).kind == "unsupported_source"


def test_a_label_studio_file_without_its_address_names_the_setting() -> None:
    error = refusal("/data/upload/3/a.png", policy())
    assert error.kind == "unsupported_source"
    assert "LABEL_STUDIO_URL" in str(error)


def test_any_type_is_accepted_because_label_studio_answers_406_otherwise(site: Site) -> None:
    site.routes["/data/upload/3/a.png"] = reply(png())
    fetch("/data/upload/3/a.png", rules(site))
    assert "*/*" in site.requests[0].headers["accept"]


PUBLIC = "http://shop.example:8080"


@pytest.mark.parametrize(
    ("base", "public", "field", "asked"),
    [
        ("", PUBLIC, f"{PUBLIC}/data/upload/3/a.png", "/data/upload/3/a.png"),
        ("", PUBLIC, f"{PUBLIC}/data/local-files/?d=a/b.png", "/data/local-files/?d=a/b.png"),
        ("/ls", f"{PUBLIC}/labels", f"{PUBLIC}/labels/data/upload/图.png", "/ls/data/upload/%E5%9B%BE.png"),
        ("", f"{PUBLIC}/labels", "/labels/data/upload/3/a.png", "/data/upload/3/a.png"),
        ("", PUBLIC, f"{PUBLIC}/tasks/7/presign/?fileuri=czM=", "/tasks/7/presign/?fileuri=czM="),
    ],
)
def test_what_stands_under_the_public_address_is_asked_for_at_the_real_one(
    site: Site, base: str, public: str, field: str, asked: str
) -> None:
    site.routes[asked.partition("?")[0]] = reply(png())
    rules = ImagePolicy(label_studio_url=site.url(base), label_studio_public_url=public, api_key=LEGACY, limits=PATIENT)

    def no_such_name(host: str, port: int) -> list[str]:
        raise OSError

    fetch(field, rules, resolver=no_such_name)
    assert site.paths() == [asked]
    assert site.requests[0].headers["authorization"] == f"Token {LEGACY}"
    assert site.requests[0].headers["host"] == f"127.0.0.1:{site.port}"


@pytest.mark.parametrize("path", ["/cdn/a.png", "/data/../cdn/a.png", "/data/%2e%2e/cdn/a.png", "/api/users"])
def test_what_else_stands_there_is_asked_for_as_written_and_without_the_token(site: Site, path: str) -> None:
    site.routes[path] = reply(png())
    public = f"http://shop.example:{site.port}"
    fetch(public + path, policy(label_studio_url="http://127.0.0.1:9", label_studio_public_url=public, api_key=LEGACY))
    assert "authorization" not in site.requests[0].headers


def test_without_the_real_address_the_public_one_is_an_ordinary_host(site: Site) -> None:
    site.routes["/data/upload/3/a.png"] = reply(png())
    fetch(site.url("/data/upload/3/a.png"), policy(label_studio_public_url=site.url(), api_key=LEGACY))
    assert "authorization" not in site.requests[0].headers


class TestTokenStaysHome:
    def test_another_port_of_the_same_host_gets_no_token(self, site: Site, other_site: Site) -> None:
        other_site.routes["/data/upload/3/a.png"] = reply(png())
        fetch(other_site.url("/data/upload/3/a.png"), policy(label_studio_url=site.url(), api_key=LEGACY))
        assert "authorization" not in other_site.requests[0].headers

    def test_another_port_of_a_private_label_studio_is_refused(self, site: Site, other_site: Site) -> None:
        assert refusal(other_site.url("/data/upload/3/a.png"), rules(site)).kind == "private_address"
        assert other_site.num_connections == 0

    def test_another_scheme_of_a_private_label_studio_is_refused(self, site: Site) -> None:
        assert refusal(site.url("/a").replace("http:", "https:"), rules(site)).kind == "private_address"

    @pytest.mark.parametrize("suffix", [".evil.com", "-evil.com"])
    def test_a_host_that_begins_like_label_studio_gets_no_token(self, site: Site, suffix: str) -> None:
        site.routes["/data/upload/3/a.png"] = reply(png())
        url = f"http://app.example.com{suffix}:{site.port}/data/upload/3/a.png"
        fetch(url, policy(label_studio_url=f"http://app.example.com:{site.port}", api_key=LEGACY))
        assert "authorization" not in site.requests[0].headers

    @pytest.mark.parametrize(
        "path", ["/api/projects/1/export", "/", "/data/../api/users", "/data/%2e%2e/api/users", "/static/logo.png"]
    )
    def test_a_path_that_serves_no_pictures_gets_no_token(self, site: Site, path: str) -> None:
        site.routes[path] = reply(png())
        fetch(site.url(path), rules(site))
        assert "authorization" not in site.requests[0].headers

    def test_a_redirect_back_home_carries_the_token_again(self, site: Site) -> None:
        site.routes |= {"/data/upload/1/a": redirect("/data/upload/1/b"), "/data/upload/1/b": reply(png())}
        fetch("/data/upload/1/a", rules(site))
        assert [request.headers.get("authorization") for request in site.requests] == [f"Token {LEGACY}"] * 2

    def test_a_redirect_to_another_private_host_is_refused(self, site: Site, other_site: Site) -> None:
        site.routes["/data/upload/1/a"] = redirect(other_site.url("/b"))
        assert refusal("/data/upload/1/a", rules(site)).kind == "private_address"
        assert other_site.num_connections == 0


class TestPersonalAccessToken:
    def test_it_buys_one_access_token_for_many_pictures(self, site: Site) -> None:
        key, access = jwt(), jwt(300, "access")
        site.routes |= {"/api/token/refresh/": granted(access), "/data/upload/1/a": reply(png())}

        async def run() -> None:
            fetcher = ImageFetcher(rules(site, key), resolver=everything_is_loopback)
            await asyncio.gather(*(fetcher.fetch(f"/data/upload/1/a?{n}") for n in range(5)))
            await fetcher.aclose()

        asyncio.run(run())
        assert site.paths().count("/api/token/refresh/") == 1
        assert json.loads(site.requests[0].body) == {"refresh": key}
        assert {request.headers.get("authorization") for request in site.requests[1:]} == {f"Bearer {access}"}

    def test_a_refused_access_token_is_bought_anew_once(self, site: Site) -> None:
        old, new = jwt(300, "access", "old"), jwt(300, "access", "new")
        site.routes["/api/token/refresh/"] = in_turn(granted(old), granted(new))
        site.routes["/data/upload/1/a"] = in_turn(reply(status=401), reply(png()))
        fetch("/data/upload/1/a", rules(site, jwt()))
        assert [request.headers.get("authorization") for request in site.requests] == [
            None, f"Bearer {old}", None, f"Bearer {new}",
        ]  # fmt: skip

    def test_an_almost_expired_access_token_is_not_used(self, site: Site) -> None:
        site.routes["/api/token/refresh/"] = granted(jwt(5, "access"))
        site.routes |= {"/data/upload/1/a": redirect("/data/upload/1/b"), "/data/upload/1/b": reply(png())}
        fetch("/data/upload/1/a", rules(site, jwt()))
        assert site.paths().count("/api/token/refresh/") == 2

    def test_an_access_token_as_key_is_sent_as_it_is(self, site: Site) -> None:
        access = jwt(300, "access")
        site.routes["/data/upload/1/a"] = reply(png())
        fetch("/data/upload/1/a", rules(site, access))
        assert site.requests[0].headers["authorization"] == f"Bearer {access}"

    @pytest.mark.parametrize(
        ("answer", "kind", "retryable"),
        [
            pytest.param(reply(status=401), "label_studio_auth", False, id="refused"),
            pytest.param(reply(b"<html>"), "label_studio_auth", False, id="not Label Studio"),
            pytest.param(reply(b'{"access": "two\\nlines"}'), "label_studio_auth", False, id="line break in token"),
            pytest.param(reply(status=404), "label_studio_auth", False, id="no such address"),
            pytest.param(reply(status=503), "unreachable", True, id="down"),
        ],
    )
    def test_a_failed_purchase_is_explained(self, site: Site, answer: Answer, kind: str, retryable: bool) -> None:
        site.routes["/api/token/refresh/"] = answer
        error = refusal("/data/upload/1/a", rules(site, jwt()))
        assert (error.kind, error.retryable) == (kind, retryable)


class TestRefusals:
    @pytest.mark.parametrize("status", [401, 403])
    def test_a_refused_token_names_the_setting(self, site: Site, status: int) -> None:
        site.routes["/data/upload/1/a"] = reply(status=status)
        error = refusal("/data/upload/1/a", rules(site))
        assert (error.kind, error.retryable) == ("label_studio_auth", False)
        assert "LABEL_STUDIO_API_KEY" in str(error)

    def test_a_missing_token_names_the_setting(self, site: Site) -> None:
        site.routes["/data/upload/1/a"] = reply(status=401)
        assert "set LABEL_STUDIO_API_KEY" in str(refusal("/data/upload/1/a", rules(site, api_key="")))

    def test_a_redirect_to_the_login_page_is_no_picture(self, site: Site) -> None:
        site.routes["/data/upload/1/a"] = redirect("/user/login/?next=/data/upload/1/a")
        assert refusal("/data/upload/1/a", rules(site)).kind == "label_studio_auth"

    @pytest.mark.parametrize(
        ("value", "answer", "kind", "says"),
        [
            ("/data/upload/1/gone.png", reply(status=404), "upload_deleted", "it was deleted there"),
            ("/data/upload/1/gone.png", reply(NO_ROW, status=500), "upload_deleted", "it was deleted there"),
            ("/data/upload/1/a.png", reply(b"database is locked", status=500), "unreachable", "try again later"),
            ("/data/upload/1/a.png", reply(b"x" * 100_000, status=500), "unreachable", "try again later"),
            ("/data/local-files/?d=a.png", reply(status=404), "not_found", "does not have the picture"),
            ("s3://bucket/a.png", reply(status=404), "no_storage", "finds no cloud storage in the task's project"),
            ("gs://bucket/a.png", reply(NO_ROW, status=500), "unreachable", "try again later"),
        ],
        ids=["deleted", "deleted, as 1.23.2 says it", "broken", "long", "a local file", "no storage", "storage broken"],
    )
    def test_what_label_studio_lacks_is_named_for_what_it_is(
        self, site: Site, value: str, answer: Answer, kind: str, says: str
    ) -> None:
        for path in ("/data/upload/1/gone.png", "/data/upload/1/a.png", "/data/local-files/", "/tasks/7/presign/"):
            site.routes[path] = answer
        error = refusal(value, rules(site), task_id=7)
        assert (error.kind, error.retryable) == (kind, kind == "unreachable")
        assert says in str(error)


@pytest.mark.parametrize("url", ["ftp://x", "http://user@x/", "http://127.1", "label-studio:8080"])
def test_a_bad_label_studio_address_refuses_to_start(url: str) -> None:
    with pytest.raises(SettingsError, match="LABEL_STUDIO_URL"):
        ImagePolicy(label_studio_url=url)


def test_a_key_with_a_line_break_refuses_to_start() -> None:
    with pytest.raises(SettingsError, match="LABEL_STUDIO_API_KEY"):
        ImagePolicy(api_key="abc\r\nX-Evil: 1")


@pytest.mark.parametrize(
    ("field", "host"),
    [
        ("//img.alicdn.com/a.jpg", "img.alicdn.com"), (" \n//img.alicdn.com/图 1.jpg ", "img.alicdn.com"),
        ("https:\\\\a.example\\b.jpg", "a.example"), ("//例子.测试/a.jpg", "xn--fsqu00a.xn--0zwm56d"),
    ],
)  # fmt: skip
def test_a_field_is_read_as_a_browser_reads_it(field: str, host: str) -> None:
    asked: list[tuple[str, int]] = []

    def resolver(name: str, port: int) -> list[str]:
        asked.append((name, port))
        return []

    assert "cannot be found" in str(refusal(field, policy(), resolver=resolver))
    assert set(asked) == {(host, 443)}
