"""A download that fails is tried again where its cause may pass, and told at once where it cannot."""

from __future__ import annotations

import httpx
import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from model_loader.errors import DownloadFailed, MachineUnfit, ModelError, ModelNotFound
from model_loader.patience import FIRST_S, MOST_S, patiently
from model_loader.sources import resolve
from model_loader.troubles import trouble

LOST = DownloadFailed("the connection was lost", may_pass=True)
FULL = MachineUnfit(trouble("load_disk_full", said="No space left on device"))
NO_ROOM = DownloadFailed("it still needs 9 GiB", lacks_room=True)
LIMIT_S = 3_600.0


class Tries:
    """Raises each of `errors` once, then gives "the folder"; a clock that goes on with each wait."""

    def __init__(self, *errors: ModelError, comes: int = 0) -> None:
        self._errors, self._comes = list(errors), comes
        self.now, self.have, self.told = 0.0, 0, list[tuple[str, float]]()

    def fetch(self) -> str:
        if not self._errors:
            return "the folder"
        self.have += self._comes
        raise self._errors.pop(0)

    def run(self) -> str:
        return patiently(
            self.fetch,
            lambda error, left_s: self.told.append((str(error), left_s)),
            lambda: self.have,
            LIMIT_S,
            clock=lambda: self.now,
            wait=self._wait,
        )

    def _wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("errors", [[LOST], [LOST] * 5, [FULL], [FULL, NO_ROOM, NO_ROOM]], ids=str)
def test_what_passes_is_waited_for_and_told_with_the_time_of_the_next_try(errors: list[ModelError]) -> None:
    tries = Tries(*errors)
    assert tries.run() == "the folder"
    assert tries.told[0] == (str(errors[0]), FIRST_S)
    assert tries.now == sum(FIRST_S * 2**n for n in range(len(errors)))


@pytest.mark.parametrize(
    "error", [ModelNotFound("the hub has no model a/b"), DownloadFailed("403 forbidden"), NO_ROOM], ids=str
)
def test_what_cannot_pass_ends_at_once(error: ModelError) -> None:
    tries = Tries(error)
    with pytest.raises(type(error)):
        tries.run()
    assert tries.told == []


def test_what_does_not_pass_ends_at_the_limit_and_each_file_that_comes_begins_it_anew() -> None:
    tries = Tries(*[LOST] * 1_000)
    with pytest.raises(DownloadFailed, match="connection was lost"):
        tries.run()
    assert LIMIT_S - MOST_S <= tries.now <= LIMIT_S
    assert Tries(*[LOST] * 1_000, comes=1).run() == "the folder"


def answered(status: int) -> HfHubHTTPError:
    return HfHubHTTPError("it says no", response=httpx.Response(status, request=httpx.Request("GET", "https://hub")))


def caused(error: Exception) -> Exception:
    told = LocalEntryNotFoundError("cannot find it in the cache, and the hub cannot be reached")
    told.__cause__ = error
    return told


@pytest.mark.parametrize(
    ("error", "may_pass"),
    [
        (answered(500), True),
        (answered(503), True),
        (answered(429), True),
        (answered(403), False),
        (answered(400), False),
        (httpx.ConnectError("Name or service not known"), True),
        (httpx.ReadTimeout("timed out"), True),
        (httpx.RemoteProtocolError("peer closed connection"), True),
        (httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate"), False),
        (httpx.UnsupportedProtocol("Request URL is missing an 'http://' or 'https://' protocol."), False),
        (ConnectionResetError(104, "Connection reset by peer"), True),
        (OSError("Consistency check failed: file should be of size 9 but has size 7 (a.safetensors)"), True),
        (caused(httpx.ConnectError("Connection refused")), True),
        (caused(answered(503)), True),
        (caused(answered(403)), False),
    ],
    ids=lambda value: f"{type(value).__name__} {value}"[:60],
)
def test_a_failure_of_the_hub_passes_or_not(error: Exception, may_pass: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(*repo: str, **options: object) -> str:
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(DownloadFailed) as failed:
        resolve("someone/tiny")
    assert failed.value.may_pass is may_pass
