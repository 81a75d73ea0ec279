"""deploy/nginx/prelabel.conf in Debian's nginx before `prelabel serve`: TLS, sub-paths, sizes, slow clients."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
import trustme

from backend.commands.demo.background_process import free_port
from backend.settings import Settings
from tests.backend.served import served
from tests.backend.serving import predict_body, task
from tests.limits import WAIT_S, until

EXAMPLE = Path(__file__).parents[2] / "deploy/nginx/prelabel.conf"
HOST = "labels.example"
PASSWORD = "correct horse battery staple"
MAIN = """
daemon off; pid {folder}/pid; error_log {folder}/error.log; user root;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {folder}/prelabel.conf;
}}
"""


@dataclass(frozen=True)
class Proxy:
    """nginx at `port` of this machine; `client` takes its certificate for that of HOST."""

    port: int
    trusted: ssl.SSLContext
    client: httpx.Client

    def raw(self) -> ssl.SSLSocket:
        return self.trusted.wrap_socket(
            socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S), server_hostname=HOST
        )


class Echo(BaseHTTPRequestHandler):
    """In Label Studio's place: says what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        said = f"{self.path} {self.headers['Host']} {self.headers['X-Forwarded-Proto']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def echo() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def nginx(folder: Path, backend_url: str, label_studio_port: int) -> Iterator[Proxy]:
    """The example as it is, but for ports, the certificate's place and a shorter wait for a request's head."""
    authority, port = trustme.CA(), free_port()
    certificate = authority.issue_cert(HOST)
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    text = EXAMPLE.read_text("utf-8")
    for here, there in {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "/etc/nginx/labels.example.pem": f"{folder}/both.pem",
        "/etc/nginx/labels.example.key": f"{folder}/both.pem",
        "127.0.0.1:9090": backend_url.removeprefix("http://"),
        "127.0.0.1:8080": f"127.0.0.1:{label_studio_port}",
        "client_header_timeout 10s": "client_header_timeout 1s",
    }.items():
        assert text.count(here) == 1, here
        text = text.replace(here, there)
    (folder / "prelabel.conf").write_text(text, "utf-8")
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder), "utf-8")
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    assert program, "scripts/bootstrap test installs nginx"
    with subprocess.Popen([program, "-p", str(folder), "-c", str(folder / "nginx.conf")]) as process:
        try:
            until(lambda: process.poll() is not None or (folder / "pid").exists(), "nginx")
            assert process.poll() is None, (folder / "error.log").read_text()
            headers, names = {"Host": f"{HOST}:{port}"}, {"sni_hostname": HOST}
            with httpx.Client(
                verify=trusted, headers=headers, auth=("prelabel", PASSWORD), trust_env=False, timeout=WAIT_S
            ) as client:
                client.event_hooks["request"] = [lambda request: request.extensions.update(names)]
                client.base_url = httpx.URL(f"https://127.0.0.1:{port}")
                yield Proxy(port, trusted, client)
        finally:
            process.terminate()
            process.wait(WAIT_S)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("nginx")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("BASIC_AUTH_PASS", PASSWORD)
        backend = stack.enter_context(served(folder))
        yield stack.enter_context(nginx(folder, backend.url, stack.enter_context(echo())))


def test_pictures_are_predicted_below_the_path_and_through_tls(proxy: Proxy) -> None:
    assert proxy.client.get("/prelabel/health").json()["status"] == "UP"
    reply = proxy.client.post("/prelabel/predict", json=predict_body(*(task(n, note="x" * 1_000) for n in range(100))))
    assert sum(bool(result) for result in reply.json()["results"]) == 100


def test_the_pages_links_and_buttons_work_below_the_path(proxy: Proxy) -> None:
    for start in ("/prelabel", "/prelabel/"):
        assert proxy.client.get(start).headers["location"] == "/prelabel/status"
    missing = predict_body(task(1, "https://shop.example/missing.jpg"))
    assert proxy.client.post("/prelabel/predict", json=missing).json()["results"] == [[]]  # something to retry
    page = proxy.client.get("/prelabel/status").text
    assert not re.findall(r'(?:href|src|action)="/', page), "an address that is not relative"
    form = re.search(r'<form method="post" action="(status/retry)".*?</form>', page, re.DOTALL)
    assert form
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form[0]))
    for origin, expected in ((f"https://{HOST}:{proxy.port}", 303), ("https://elsewhere.example", 403)):
        reply = proxy.client.post(f"/prelabel/{form[1]}", data=fields, headers={"Origin": origin})
        assert reply.status_code == expected
        if expected == 303:
            landed = reply.url.join(reply.headers["location"])
            assert landed.path == "/prelabel/status"
            assert proxy.client.get(landed.raw_path.decode()).status_code == 200


def test_the_largest_body_is_that_of_the_settings_and_nginx_refuses_a_larger_one(proxy: Proxy) -> None:
    limit = Settings.model_fields["max_body_bytes"].default
    with proxy.raw() as connection:
        head = f"POST /prelabel/predict HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {limit + 1}\r\n\r\n"
        connection.sendall(head.encode())
        reply = connection.recv(65_536)
    assert reply.startswith(b"HTTP/1.1 413")
    assert b"Server: nginx" in reply
    assert f"client_max_body_size {limit // 2**20}m;" in EXAMPLE.read_text("utf-8")


def test_a_slow_head_is_cut(proxy: Proxy) -> None:
    with proxy.raw() as connection:
        connection.sendall(b"GET /prelabel/health HTTP/1.1\r\nHost: ")
        assert connection.recv(65_536) == b""


def test_nginx_waits_longer_than_any_deadline(proxy: Proxy) -> None:
    waits = re.findall(r"proxy_read_timeout (\d+)s", EXAMPLE.read_text("utf-8"))
    assert all(int(seconds) > 95 for seconds in waits)


def test_label_studio_is_found_below_its_path(proxy: Proxy) -> None:
    said = proxy.client.get("/label-studio/api/version?x=1").text
    assert said == f"/api/version?x=1 {HOST}:{proxy.port} https"
