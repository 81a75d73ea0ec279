"""What Label Studio 1.23 asks, in its own bodies, and what it must find in the answers."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from backend.engine.messages import GenerateRequest
from backend.errors import GenerationFailed
from backend.label_studio.address import LabelStudioAddresses
from backend.predict.named_addresses import NamedAddresses
from label_config.parse import parse_label_config
from tests.backend.serving import ANSWER, CAPTION, CONFIG, Server, predict_body, serving, setup_body, strict_json, task
from tests.fakes import FakeEngine

ENGLISH = """<View><Image name="photo" value="$picture"/>
<Choices name="kind" toName="photo"><Choice value="shoe"/><Choice value="bag"/></Choices></View>"""


def test_health_says_up_and_what_the_model_does(server: Server) -> None:
    reply = server.client.get("/health")
    assert reply.status_code == 200
    assert reply.json()["status"] == "UP"
    assert reply.json()["model"]["name"] == "garments"
    assert server.client.head("/health").status_code == 200
    assert server.client.head("/health").content == b""


def test_setup_returns_the_version_that_predictions_carry(server: Server) -> None:
    setup = server.client.post("/setup", json=setup_body()).json()
    (prediction,) = server.predict(task()).json()["results"]
    assert setup["model_version"] == prediction["model_version"]
    assert setup["model_version"].startswith("garments-nf4-")
    assert server.client.get("/versions").json() == {"versions": [setup["model_version"]]}


def test_a_prediction_names_the_labels_of_the_projects_config(server: Server) -> None:
    (prediction,) = server.predict(task()).json()["results"]
    values = {region["from_name"]: region["value"] for region in prediction["result"]}
    assert values["caption"]["text"] == [CAPTION]
    assert values["category"]["taxonomy"] == [["服饰", "女装", "连衣裙"]]
    assert values["season"]["choices"] == ["winter"]  # the alias is what Label Studio stores
    assert 0 < prediction["score"] <= 1


def test_predictions_pass_label_studios_own_validation(server: Server) -> None:
    from label_studio_sdk.label_interface import LabelInterface

    for prediction in server.predict(task(1), task(2)).json()["results"]:
        assert not LabelInterface(CONFIG).validate_prediction(prediction, return_errors=True)


def test_results_keep_the_order_of_tasks_and_a_failed_one_is_an_empty_list(server: Server) -> None:
    reply = server.predict(task(1), task(2, "https://shop.example/missing.jpg"), task(3))
    first, second, third = strict_json(reply.text)["results"]
    assert first["result"]
    assert second == []
    assert third["result"]
    assert server.metric("prelabel_task_failures_total", reason="image_not_found") == 1


@pytest.mark.parametrize("data", [{"image": None}, {"image": 7}, {"image": [7]}, {"photo": "a"}, {}], ids=repr)
def test_a_task_without_a_picture_costs_its_neighbours_nothing(server: Server, data: dict[str, Any]) -> None:
    broken = {**task(1), "data": data}
    first, second = server.predict(broken, task(2)).json()["results"]
    assert first == []
    assert second["result"]


def test_no_tasks_get_no_results(server: Server) -> None:
    assert server.predict().json() == {"results": []}


def test_the_engine_failing_on_one_task_spares_the_rest(tmp_path: Path) -> None:
    calls = itertools.count()

    def answers(request: GenerateRequest) -> Any:
        if next(calls) == 1:
            raise GenerationFailed("too_long: the picture does not fit")
        return ANSWER

    with serving(tmp_path, FakeEngine(answers)) as server:
        results = server.predict(task(1), task(2), task(3)).json()["results"]
        assert sorted(bool(result) for result in results) == [False, True, True]


def test_a_fault_of_our_own_on_one_task_spares_the_rest_and_says_little(tmp_path: Path) -> None:
    calls = itertools.count()

    def answers(request: GenerateRequest) -> Any:
        return {"season": object()} if next(calls) == 1 else ANSWER

    with serving(tmp_path, FakeEngine(answers)) as server:
        reply = server.predict(task(1), task(2), task(3))
        assert reply.status_code == 200
        assert [] in reply.json()["results"]
        assert server.metric("prelabel_task_failures_total", reason="internal") == 1


def test_every_predict_goes_by_its_own_label_config(server: Server) -> None:
    server.client.post("/setup", json=setup_body(CONFIG))
    server.engine.answers = lambda request: {"kind": ("bag",)}
    (prediction,) = server.predict({**task(), "data": {"picture": "https://x.example/1"}}, config=ENGLISH).json()[
        "results"
    ]
    assert [region["from_name"] for region in prediction["result"]] == ["kind"]
    assert server.images.fetched == ["https://x.example/1"]


def test_extra_params_of_setup_take_effect_and_change_the_version(server: Server) -> None:
    before = server.client.post("/setup", json=setup_body()).json()
    extra = {"language": "en", "extra_instructions": "Mention the collar.", "temperature": 0.1}
    after = server.client.post("/setup", json=setup_body(extra_params=extra)).json()
    assert after["model_version"] != before["model_version"]
    assert after["warnings"] == before["warnings"] == list(parse_label_config(CONFIG).traps)
    (prediction,) = server.predict(task()).json()["results"]
    request = server.engine.requests[-1]
    assert prediction["model_version"] == after["model_version"]
    assert "Mention the collar." in request.instruction
    assert request.sampling.temperature == 0.1


def test_extra_params_of_one_project_do_not_touch_another(server: Server) -> None:
    server.client.post("/setup", json=setup_body(extra_params={"extra_instructions": "ONLY-ONE"}, project="1.17"))
    server.predict(task())
    assert "ONLY-ONE" not in server.engine.requests[-1].instruction


def test_setup_warns_of_what_it_leaves_out(server: Server) -> None:
    reply = server.client.post("/setup", json=setup_body(extra_params={"langauge": "en"}))
    assert reply.status_code == 200
    assert "did you mean language" in " ".join(reply.json()["warnings"])


@pytest.mark.parametrize(
    ("value", "data", "url"),
    [
        ("$item.url", {"item": {"url": "https://a/1.jpg"}}, "https://a/1.jpg"),
        ("$images[1]", {"images": ["https://a/1.jpg", "https://a/2.jpg"]}, "https://a/2.jpg"),
        ("https://a/$name", {"name": "3.jpg"}, "https://a/3.jpg"),
    ],
)
def test_the_picture_is_the_one_that_the_form_shows(server: Server, value: str, data: Any, url: str) -> None:
    config = CONFIG.replace('value="$image"', f'value="{value}"')
    assert config != CONFIG
    body = predict_body({**task(1), "data": data}, config=config)
    assert server.client.post("/predict", json=body).json()["results"][0]["result"]
    assert server.images.fetched == [url]


def test_setup_refuses_a_value_that_shows_no_picture_and_warns_of_what_cannot_be_imported(server: Server) -> None:
    refused = server.client.post("/setup", json=setup_body(CONFIG.replace('value="$image"', 'value="$图片"')))
    assert refused.status_code == 400
    assert "ASCII letters" in refused.text
    warned = server.client.post("/setup", json=setup_body(CONFIG.replace('value="$image"', 'value="$images.0"')))
    assert any('write value="$images[0]"' in warning for warning in warned.json()["warnings"])


def test_setup_tells_the_fetcher_what_label_studio_calls_itself_and_a_restart_does_not_forget_it(
    server: Server,
) -> None:
    for hostname in ("http://shop.example:8080", None, 7, "x" * 1_000):
        reply = server.client.post("/setup", json={**setup_body(), "hostname": hostname})
        assert reply.status_code == 200
    assert server.images.label_studio.named == ("http://shop.example:8080",)
    after = LabelStudioAddresses()
    NamedAddresses(server.settings.data_dir, after)
    assert after.named == ("http://shop.example:8080",)


def test_each_picture_has_a_seed_of_its_own_and_the_same_one_is_answered_once(server: Server) -> None:
    same = "https://shop.example/same.jpg"
    first, second = server.predict(task(1, same), task(2, same)).json()["results"]
    (third,) = server.predict(task(3, same)).json()["results"]
    server.predict(task(4, "https://shop.example/other.jpg"))
    seeds = [request.sampling.seed for request in server.engine.requests]
    assert len(seeds) == 2
    assert seeds[0] != seeds[1]
    predictions = [first, second, third]
    assert all(_values(prediction) == _values(first) for prediction in predictions)
    assert len({region["id"] for prediction in predictions for region in prediction["result"]}) == 9


def _values(prediction: dict[str, Any]) -> list[Any]:
    return [region["value"] for region in prediction["result"]]


def test_a_single_task_is_interactive_and_a_list_is_not(server: Server) -> None:
    server.predict(task(1))
    server.predict(task(2), task(3))
    assert [request.interactive for request in server.engine.requests] == [True, False, False]


@pytest.mark.parametrize(
    "context",
    [
        pytest.param({"result": []}, id="no region"),
        pytest.param({"result": [{"from_name": "foreign", "type": "brush", "value": {}}]}, id="foreign tag"),
        pytest.param("text", id="text"),
        pytest.param([1], id="list"),
    ],
)
def test_an_interactive_request_always_gets_an_object(server: Server, context: Any) -> None:
    good = server.predict(task(), context=context).json()["results"]
    bad = server.predict(task(1, "https://shop.example/missing.jpg"), context=context).json()["results"]
    assert good[0]["result"]
    assert bad == [{"result": []}]


@pytest.mark.parametrize("params", [None, {}, {"context": None}, {"login": "a", "password": "b"}], ids=repr)
def test_params_may_be_missing_or_null(server: Server, params: Any) -> None:
    body = {**predict_body(task()), "params": params}
    assert server.client.post("/predict", json=body).json()["results"][0]["result"]


@pytest.mark.parametrize("project", ["12.1700000000", "12", 12, None, ""], ids=repr)
def test_the_project_may_be_written_in_every_way_label_studio_had(server: Server, project: Any) -> None:
    body = {**predict_body(task()), "project": project}
    assert server.client.post("/predict", json=body).status_code == 200
    assert server.client.post("/setup", json={**setup_body(), "project": project}).status_code == 200


def test_a_webhook_is_heard_and_changes_nothing(server: Server) -> None:
    before = server.client.post("/setup", json=setup_body()).json()["model_version"]
    hook = {"action": "PROJECT_UPDATED", "project": {"id": 12, "label_config": ENGLISH}}
    assert server.client.post("/webhook", json=hook).json() == {"status": "ok"}
    assert server.client.post("/webhook", json={"action": "x" * 5000, "project": 1}).status_code == 200
    assert server.client.post("/setup", json=setup_body()).json()["model_version"] == before
    for action in ("ANNOTATION_CREATED", "ANNOTATIONS_DELETED"):  # hints for `quality.watch`, which asks Label Studio
        assert server.client.post("/webhook", json={"action": action, "project": {"id": 12}}).status_code == 200
    assert server.metric("prelabel_webhooks_total", action="PROJECT_UPDATED") == 1
    assert server.metric("prelabel_webhooks_total", action="other") == 1


@pytest.mark.parametrize("path", ["/", "//health", "/health/", "/docs", "/openapi.json", "/train", "/%2e%2e/etc"])
def test_an_unknown_page_is_404_in_json(server: Server, path: str) -> None:
    reply = server.client.get(path)
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(("method", "path"), [("GET", "/predict"), ("POST", "/health"), ("DELETE", "/setup")])
def test_a_wrong_method_is_405(server: Server, method: str, path: str) -> None:
    reply = server.client.request(method, path)
    assert (reply.status_code, reply.json()["error"]["code"]) == (405, "method_not_allowed")
    assert reply.headers["allow"]


def test_metrics_count_by_route_and_never_by_what_a_client_typed(server: Server) -> None:
    server.predict(task(1), task(2))
    server.client.get("/secret-place")
    text = server.client.get("/metrics").text
    assert "secret-place" not in text
    assert server.metric("prelabel_requests_total", route="/predict", status="200") == 1
    assert server.metric("prelabel_images_total", result="ok") == 2
    assert server.metric("prelabel_engine_state", state="ready") == 1
    assert server.metric("prelabel_predict_seconds_count") == 1
    assert server.metric("prelabel_tokens_total", kind="image") == 128
