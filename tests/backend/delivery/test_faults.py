"""Label Studio away, slow, or cut off in the middle of an answer: the work waits, and each prediction is there once."""

from __future__ import annotations

import jwt
import pytest

from backend.delivery.pace import DeliveryLimits, Lane
from backend.label_studio.predictions import CallFailed, PredictionsClient
from tests.backend.delivery.fake_server import FakeServer
from tests.backend.delivery.rig import SHORT_S, VERSION, Rig
from tests.backend.fake_label_studio import LEGACY_KEY, PERSONAL_KEY
from tests.limits import WAIT_S

AWAY = ("reset", "slow", "429", "500", "502", "503", "504", "301", "408", "409", "400", "404", "200 html")


@pytest.mark.parametrize("fault", AWAY)
@pytest.mark.parametrize("kind", ["read", "import"])
def test_work_waits_while_label_studio_is_away(rig: Rig, label_studio: FakeServer, kind: str, fault: str) -> None:
    rig.store.add(label_studio.add_project(1, 5), sorted(label_studio.tasks[1]))
    label_studio.fail(kind, fault)
    if fault == "slow":
        rig.patience_s = SHORT_S
    rig.run()
    assert len(rig.store.open) == 5
    assert rig.delivery.status.last_error_at == rig.now
    num_calls = len(label_studio.calls)
    rig.run(rounds=3)
    assert len(label_studio.calls) == num_calls, "it asked again without waiting"
    rig.run_until_settled()
    assert label_studio.stored() == dict.fromkeys(label_studio.tasks[1], 1)


LOST = ("commit_reset", "commit_later_reset", "slow_commit", "commit_500", "commit_502", "commit_wrong")


@pytest.mark.parametrize("fault", LOST)
def test_an_import_whose_reply_was_lost_is_found_and_not_repeated(
    rig: Rig, label_studio: FakeServer, fault: str
) -> None:
    rig.store.add(label_studio.add_project(1, 5), sorted(label_studio.tasks[1]))
    label_studio.fail("import", fault)
    if fault == "slow_commit":
        rig.patience_s = SHORT_S
    rig.run()
    assert len(rig.store.open) == 5
    rig.run_until_settled()
    assert label_studio.stored() == dict.fromkeys(label_studio.tasks[1], 1)
    assert label_studio.num_imports == 1


def test_a_lost_reply_is_not_looked_into_before_label_studio_can_be_done(rig: Rig, label_studio: FakeServer) -> None:
    rig.store.add(label_studio.add_project(1, 5), sorted(label_studio.tasks[1]))
    label_studio.fail("import", "commit_later_reset")
    rig.run()
    rig.run(advance_s=rig.limits.settle_s - 1)
    rig.run(advance_s=rig.limits.settle_s)
    assert label_studio.stored() == dict.fromkeys(label_studio.tasks[1], 1)


def test_a_batch_taken_in_part_stays_in_doubt_until_it_was_read_back(rig: Rig, label_studio: FakeServer) -> None:
    rig.store.add(label_studio.add_project(1, 3), sorted(label_studio.tasks[1]))
    label_studio.misfits = {1001}
    label_studio.fail("import", "")
    label_studio.fail("read", "", "503")
    rig.run()
    assert set(rig.store.states().values()) == {"returned"}, "a reply could double what Label Studio has"
    label_studio.misfits = set()
    rig.run_until_settled()
    assert label_studio.stored() == dict.fromkeys(label_studio.tasks[1], 1)


def test_a_lost_reply_whose_import_never_happened_is_sent_again(rig: Rig, label_studio: FakeServer) -> None:
    rig.store.add(label_studio.add_project(1, 5), sorted(label_studio.tasks[1]))
    label_studio.fail("import", "reset")
    rig.run_until_settled()
    assert label_studio.stored() == dict.fromkeys(label_studio.tasks[1], 1)


def test_waits_grow_to_a_limit_and_the_order_stays(rig: Rig, label_studio: FakeServer) -> None:
    uid = label_studio.add_project(1, 300)
    rig.store.add(uid, sorted(label_studio.tasks[1]))
    label_studio.fail("read", *["503"] * 12)
    rig.run()
    for wait_s in [2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600]:
        num_calls = len(label_studio.calls)
        rig.run(advance_s=wait_s - 0.5)
        assert len(label_studio.calls) == num_calls
        rig.run(advance_s=0.5)
        assert len(label_studio.calls) > num_calls
    assert label_studio.rows
    rig.run_until_settled()
    assert [item["task"] for _, item in label_studio.rows] == sorted(label_studio.tasks[1])


def test_the_wait_that_label_studio_asks_for_is_kept(rig: Rig, label_studio: FakeServer) -> None:
    rig.store.add(label_studio.add_project(1, 1), [1000])
    label_studio.fail("import", "429")
    rig.run()
    num_calls = len(label_studio.calls)
    rig.run(advance_s=119)
    assert len(label_studio.calls) == num_calls
    rig.run(advance_s=1)
    assert label_studio.stored() == {1000: 1}


def test_one_projects_trouble_stops_no_other(rig: Rig, label_studio: FakeServer) -> None:
    for number in range(1, 7):
        rig.store.add(label_studio.add_project(number, 3), sorted(label_studio.tasks[number]))
    label_studio.down_for = {1, 2, 3, 4}
    rig.run(rounds=2)
    assert {task // 1_000 for task in label_studio.stored()} == {5, 6}
    label_studio.down_for = set()
    rig.run_until_settled()
    assert set(label_studio.stored().values()) == {1}


def test_a_prediction_that_breaks_label_studio_lets_the_others_pass(rig: Rig, label_studio: FakeServer) -> None:
    rig.store.add(label_studio.add_project(1, 2), [1000, 1001])
    label_studio.fail("import", *["500"] * 10)  # 200 -> 1, and then the first alone
    for _ in range(10):
        rig.run(advance_s=601)
    rig.run(advance_s=rig.limits.settle_s)
    assert label_studio.stored() == {1001: 1}
    rig.run_until_settled()
    assert label_studio.stored() == {1000: 1, 1001: 1}


@pytest.mark.filterwarnings("ignore:The `parse_obj` method")  # of label-studio-sdk 2.1.2
@pytest.mark.parametrize("key", [LEGACY_KEY, PERSONAL_KEY], ids=["legacy token", "personal access token"])
def test_a_token_that_expires_pauses_everything_until_it_works_again(
    rig: Rig, label_studio: FakeServer, key: str
) -> None:
    rig.key = key
    for number in (1, 2):
        rig.store.add(label_studio.add_project(number, 201), sorted(label_studio.tasks[number]))
    rig.run()
    keys, label_studio.keys = label_studio.keys, set()
    rig.run()
    assert rig.delivery.status.paused_until == rig.now + 60
    assert set(rig.refusals) == {rig.now}, "so that the checks look at once"
    label_studio.calls.clear()
    for _ in range(5 * 6):
        rig.run(advance_s=10)
    probes = [path for _, path in label_studio.calls if "token" not in path]
    assert probes == ["/api/current-user/whoami"] * 5
    assert len(rig.store.open) == 2
    label_studio.keys = keys
    rig.run(advance_s=60)
    rig.run_until_settled()
    assert rig.delivery.status.paused_until is None
    assert set(label_studio.stored().values()) == {1}


def test_a_new_key_is_taken_at_the_next_probe(rig: Rig, label_studio: FakeServer) -> None:
    rig.store.add(label_studio.add_project(1, 1), [1000])
    rig.key = "b" * 40
    rig.run()
    rig.key = LEGACY_KEY
    rig.run(advance_s=60)
    assert label_studio.stored() == {1000: 1}


def test_an_expired_personal_access_token_pauses_without_a_call(rig: Rig, label_studio: FakeServer) -> None:
    rig.key = jwt.encode({"token_type": "refresh", "exp": 1_000}, "k" * 32)
    rig.store.add(label_studio.add_project(1, 1), [1000])
    rig.run()
    assert rig.delivery.status.paused_until is not None
    assert rig.key not in rig.delivery.status.last_error
    assert not label_studio.calls


def test_a_project_that_is_forbidden_is_that_projects_trouble(rig: Rig, label_studio: FakeServer) -> None:
    for number in (1, 2):
        rig.store.add(label_studio.add_project(number, 2), sorted(label_studio.tasks[number]))
    label_studio.forbidden = {1}
    rig.run()
    assert rig.delivery.status.paused_until is None
    assert label_studio.stored() == {2000: 1, 2001: 1}
    label_studio.forbidden = set()
    rig.run_until_settled()
    assert label_studio.stored() == {1000: 1, 1001: 1, 2000: 1, 2001: 1}


@pytest.mark.filterwarnings("ignore:The `parse_obj` method")
@pytest.mark.parametrize("fault", ["502", "reset", "200 html", "503"])
def test_trouble_at_the_exchange_of_a_token_is_no_refusal(rig: Rig, label_studio: FakeServer, fault: str) -> None:
    rig.key = PERSONAL_KEY
    rig.store.add(label_studio.add_project(1, 1), [1000])
    label_studio.fail("token", fault)
    rig.run()
    assert rig.delivery.status.paused_until is None
    assert rig.store.states() == {1000: "done"}, "nothing was sent, so nothing needs looking up"
    rig.run_until_settled()
    assert label_studio.stored() == {1000: 1}


def test_nothing_listening_means_that_nothing_was_sent(rig: Rig, label_studio: FakeServer) -> None:
    rig.store.add(label_studio.add_project(1, 1), [1000])
    rig.new_delivery(lambda: PredictionsClient("http://127.0.0.1:1", LEGACY_KEY))
    rig.run()
    assert rig.store.states() == {1000: "done"}
    assert "cannot be reached" in rig.delivery.status.last_error


def test_a_call_says_what_is_known_of_it(label_studio: FakeServer) -> None:
    label_studio.add_project(1, 1)
    label_studio.fail("import", "commit_reset")
    with PredictionsClient(label_studio.url, LEGACY_KEY, read_s=WAIT_S, import_s=WAIT_S) as client:
        with pytest.raises(CallFailed) as caught:
            client.import_predictions(1, [{"task": 1000, "model_version": VERSION}])
        assert caught.value.kind == "in_doubt"
        label_studio.fail("read", "reset")
        with pytest.raises(CallFailed) as caught:
            client.missing_tasks(1, [1000])
        assert caught.value.kind == "busy", "reading leaves nothing in doubt"
        assert client.predictions_of(1, [1000, 1], VERSION) == {1000}
        assert client.missing_tasks(1, [1000, 1]) == {1}
        assert client.current_project(2) is None


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ("5", 5), ("0", 1), ("1e9", 3600), ("-3", 1), ("soon", None), ("nan", None),
        ("Wed, 01 Jan 2200 00:00:00 GMT", 3600), ("Sat, 01 Jan 2000 00:00:00 GMT", 1),
    ],
    ids=["seconds", "none", "for ever", "negative", "a word", "no number", "in years", "years ago"],
)  # fmt: skip
def test_the_wait_that_is_asked_for_is_read_within_limits(
    label_studio: FakeServer, header: str, wait_s: float | None
) -> None:
    label_studio.fail("read", f"429 {header}")
    with (
        PredictionsClient(label_studio.url, LEGACY_KEY, read_s=WAIT_S, import_s=WAIT_S) as client,
        pytest.raises(CallFailed) as caught,
    ):
        client.check_token()
    assert caught.value.retry_after_s == wait_s


def test_batches_shrink_where_imports_fail_and_grow_again() -> None:
    lane = Lane(DeliveryLimits(batch=200), 200)
    sizes = []
    for _ in range(9):
        lane.failed(0.0, 0.0, smaller=True)
        sizes.append(lane.size)
    assert sizes == [100, 50, 25, 12, 6, 3, 1, 1, 1]
    for _ in range(8):
        lane.succeeded(0.0, 0.1, more=False)
    assert lane.size == 200
    assert lane.is_idle
