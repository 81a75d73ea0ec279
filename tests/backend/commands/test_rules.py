"""`prelabel quality --project 12 --propose-rules` and `--try-rule`: a project whose model does as a rule says."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from backend import cli
from backend.commands.model_settings import ModelSettings
from backend.commands.rule_adopt import adopt_rule
from backend.commands.rule_model import trial_model
from backend.commands.rule_proposals import put_together
from backend.engine.api import EngineStatus
from backend.engine.messages import GenerateRequest, Picture, Ready
from backend.errors import Cancelled, EngineDead, GenerationFailed, ImageError, PrelabelError, UsageError
from backend.images import FetchedImage
from backend.label_studio.client import LabelStudioClient
from backend.predict.options import ProjectOptions
from backend.predict.trial import Trial, TrialTask
from backend.quality.words import Sentences
from backend.settings import load_settings
from label_config.answer import FieldValue
from tests.backend.commands.test_quality_apply import TYPED, add_backend, apply, filters, options_of, typed_now
from tests.backend.fake_label_studio import LEGACY_KEY, FakeLabelStudio, fake_label_studio
from tests.backend.label_studio.tasks_server import TasksServer, annotation, tasks_server
from tests.backend.quality.given import quality as found_quality
from tests.backend.serving import ANSWER, CONFIG, Server, serving, setup_body, task
from tests.fakes import FakeEngine, FakeImages

NUM = 200
HELPS, HURTS, DOES_NOTHING = "夏季看短袖。", "冬季看长袖。", "看图回答。"
QWEN = Ready("qwen3-vl-8b", "nf4", "cpu", 0.1, 0.2)


def is_hard(number: int) -> bool:
    """Answered wrong without a rule: half of all, so that of the tasks that chance holds out it is enough of them."""
    return number % 2 == 0


class NumberedImages(FakeImages):
    """A picture's colour is the number of its task."""

    async def fetch(
        self, url: str, *, task_id: int | None, timeout_s: float, interactive: bool = False, project: str = ""
    ) -> FetchedImage:
        fetched = await super().fetch(url, task_id=task_id, timeout_s=timeout_s, interactive=interactive)
        picture = Picture(4, 4, bytes([task_id or 0]) * 48)
        return replace(fetched, picture=picture, sha256=hashlib.sha256(f"{task_id}".encode()).hexdigest())


def answers(request: GenerateRequest) -> Mapping[str, FieldValue]:
    """Every picture shows summer; hard ones are taken for winter, unless a rule helps; the others where one hurts."""
    if [field.name for field in request.schema.fields] == ["rule"]:
        return {"rule": "短袖和裙装是夏季，厚外套是冬季。"}
    number = request.picture.rgb[0]
    is_wrong = is_hard(number) and HELPS not in request.instruction
    is_wrong = is_wrong or HURTS in request.instruction
    return {**ANSWER, "season": ("冬季" if is_wrong else "夏季",)}


def picture_url() -> str:
    file = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


@pytest.fixture(scope="module")
def labels() -> Iterator[TasksServer]:
    with tasks_server(CONFIG) as labels:
        for number in range(1, NUM + 1):
            labels.add(number, 5, image=picture_url())
        yield labels


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, labels: TasksServer, _clean_environment: None) -> Iterator[Server]:
    """All tasks answered, half of them withheld for the blind audit, and those labelled by people."""
    engine = FakeEngine(answers)
    with serving(tmp_path_factory.mktemp("data"), engine, images=NumberedImages()) as running:
        typed = {"audit_share": 0.5, "extra_instructions": "写明材质。"}
        running.client.post("/setup", json=setup_body(extra_params=typed))
        shown = running.predict(*(task(number) for number in range(1, NUM + 1))).json()["results"]
        regions = [{"from_name": "season", "to_name": "image", "type": "choices", "value": {"choices": ["夏季"]}}]
        for number, prediction in enumerate(shown, 1):
            if prediction == []:
                labels.add(number, 10, annotation(number, 10, regions), image=picture_url())
        yield running


@pytest.fixture
def quality(
    server: Server, labels: TasksServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    monkeypatch.setenv("LABEL_STUDIO_URL", labels.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", LEGACY_KEY)
    monkeypatch.setenv("PRELABEL_DATA_DIR", str(server.settings.data_dir))
    monkeypatch.setenv("PRELABEL_PORT", str(server.port))
    (server.settings.data_dir / "rules.json").unlink(missing_ok=True)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["prelabel", "quality", "--project", "12", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return run


def test_the_built_in_model_leaves_the_rule_for_a_person_to_complete_and_says_so(quality: Any) -> None:
    code, shown, errors = quality("--propose-rules", "--language", "en")

    assert code == 0, errors
    assert "season: “冬季” and “夏季” are confused" in shown
    assert "Rule: 冬季 与 夏季：看到____时选冬季，看到____时选夏季。" in shown, "in the language the model is asked in"
    assert "the built-in garments cannot" in shown
    assert '{"extra_instructions": "写明材质。\\n冬季 与 夏季：' in shown
    assert "prelabel quality --project 12 --try-rule '冬季 与 夏季：" in shown


def test_programs_get_the_counts_of_the_half_that_proposes_and_the_rest_is_held_out(quality: Any) -> None:
    code, shown, errors = quality("--propose-rules", "--json")

    assert code == 0, errors
    found = json.loads(shown)
    [rule] = found["rules"]
    assert 10 < found["num_held_out"] < 90
    assert rule["num"] == rule["num_blind"] == rule["num_first"] < found["num_proposing"]
    assert rule["written_by"] == "template"


def test_another_model_writes_the_rule_from_pictures_that_were_confused(quality: Any, server: Server) -> None:
    before = server.engine.status
    server.engine.status = EngineStatus("ready", "ready", 1.0, QWEN)
    try:
        server.predict(task(NUM))  # the project's present version is that of the loaded model
        server.client.post("/setup", json=setup_body(extra_params={"audit_share": 0.5}))
        server.predict(*(task(number) for number in range(1, NUM + 1)))
        code, shown, errors = quality("--propose-rules", "--language", "en")
    finally:
        server.engine.status = before
        typed = {"audit_share": 0.5, "extra_instructions": "写明材质。"}
        server.client.post("/setup", json=setup_body(extra_params=typed))
        server.predict(*(task(number) for number in range(1, NUM + 1)))

    assert code == 0, errors
    assert "Rule: 冬季 与 夏季：短袖和裙装是夏季，厚外套是冬季。" in shown
    assert "Drafted by the model: read it" in shown
    asked = next(one for one in server.engine.requests if [f.name for f in one.schema.fields] == ["rule"])
    assert asked.instruction.startswith("这张图由几张商品图片拼成")


def test_a_rule_that_helps_is_better_and_told_with_what_to_write(quality: Any, server: Server) -> None:
    num_before = len(server.engine.requests)
    code, shown, errors = quality("--try-rule", HELPS, "--language", "en")

    assert code == 0, errors
    assert "became right and 0 wrong: better (by luck alone: p" in shown
    assert "This is try 1 on these tasks" in shown
    assert '{"extra_instructions": "写明材质。\\n夏季看短袖。"}' in shown
    tried = [one for one in server.engine.requests[num_before:] if HELPS in one.instruction]
    assert 10 < len(tried) < 90, "those held out alone"
    num_hard = sum(is_hard(one.picture.rgb[0]) for one in tried)
    assert f"Of {len(tried)} held-out tasks {num_hard} became right and 0 wrong" in shown, "as counted by hand"
    status = server.client.get("/status.json").json()["projects"][0]
    assert status["num_answered"] == NUM, "nothing of it counts for the project"

    num_before = len(server.engine.requests)
    _, shown, errors = quality("--try-rule", f"  {HELPS}\n", "--language", "en")
    assert "This is try 1 on" in shown
    assert "This rule was tried on these tasks on 20" in errors
    assert "nothing was computed again" in errors
    assert len(server.engine.requests) == num_before, "the same try is known"


@pytest.mark.parametrize(("rule", "said"), [(HURTS, "变差了，请不要采用"), (DOES_NOTHING, "看不出差别")])
def test_a_rule_that_hurts_or_does_nothing_is_not_adopted(
    quality: Any, labels: TasksServer, rule: str, said: str
) -> None:
    code, shown, errors = quality("--try-rule", rule, "--adopt", "--language", "zh")

    assert (code, said in shown) == (1, True), errors
    assert "没有写入" in errors
    assert {method for method, _, _ in labels.calls} == {"GET"}


def test_each_further_try_must_be_surer_and_the_first_keeps_its_number(quality: Any, tmp_path: Path) -> None:
    limits = []
    (tmp_path / "rule.txt").write_text(HELPS, encoding="utf-8-sig")
    for text in ("材质", HURTS, f"@{tmp_path / 'rule.txt'}", "材质"):
        _, shown, errors = quality("--try-rule", text, "--json")
        found = json.loads(shown)
        limits.append((found["try"], found["p_limit"]))
    assert limits == [(1, 0.025), (2, 0.0125), (3, 0.00625), (1, 0.025)], errors


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (Cancelled("the server stops"), "it was not finished: "),
        (EngineDead("it died"), "it was not finished: "),
        (GenerationFailed("out of memory", "out_of_memory"), "it was not finished: "),
        (ImageError("not_found", "HTTP 404"), "tasks are left out: "),
    ],
)
def test_what_fails_without_the_rule_being_to_blame_says_nothing_of_it_and_is_no_try(
    quality: Any, server: Server, failure: Exception, said: str
) -> None:
    server.engine.failure = failure
    try:
        code, shown, errors = quality("--try-rule", f"看{type(failure).__name__}。", "--language", "en")
    finally:
        server.engine.failure = None
    assert (code, shown, said in errors) == (2, "", True), errors
    assert not (server.settings.data_dir / "rules.json").exists()


def test_answers_that_cannot_be_read_with_the_rule_are_wrong_ones(quality: Any, server: Server) -> None:
    server.engine.failure = GenerationFailed("too long", "too_long")
    try:
        code, shown, errors = quality("--try-rule", "写得很长。", "--language", "en")
    finally:
        server.engine.failure = None
    assert code == 0, errors
    assert "tasks have no answer with the rule, which counts as wrong" in shown
    assert "worse; do not adopt it." in shown


def test_a_try_during_which_another_model_is_loaded_is_none(quality: Any, server: Server) -> None:
    before, said = server.engine.status, server.engine.answers

    def other_model(request: GenerateRequest) -> Mapping[str, FieldValue]:
        server.engine.status = EngineStatus("ready", "ready", 1.0, QWEN)
        return said(request)

    server.engine.answers = other_model
    try:
        code, shown, errors = quality("--try-rule", "看另一个模型。", "--language", "en")
    finally:
        server.engine.answers, server.engine.status = said, before
    assert (code, shown, "more than the rule would differ" in errors) == (2, "", True), errors
    assert not (server.settings.data_dir / "rules.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--try-rule", " \n"], "the rule is empty"),
        (["--try-rule", "长" * 501], "has 501 characters; the limit is 500"),
        (["--try-rule", "看到____时选冬季"], "complete the rule first"),
        (["--try-rule", "写明材质。"], "hold this rule already"),
        (["--try-rule", "@nowhere.txt"], "nowhere.txt cannot be read"),
        (["--adopt"], "--adopt and --project do not go together (--adopt goes with --try-rule)"),
        (["--propose-rules", "--try-rule", "x"], "--propose-rules and --try-rule do not go together"),
        (["--propose-rules", "--target", "0.95"], "--target and --propose-rules do not go together"),
        (["--try-rule", "x", "--confidence", "0.95"], "--confidence and --try-rule do not go together"),
        (["--propose-rules", "--report", "a.html"], "--report and --propose-rules do not go together"),
        (["--try-rule", "x", "--apply-calibration"], "--apply-calibration and --try-rule do not go together"),
    ],
)
def test_what_cannot_be_tried_is_refused_by_name_and_is_no_try(
    quality: Any, server: Server, arguments: list[str], said: str
) -> None:
    code, _, errors = quality(*arguments)
    assert (code, said in errors) == (2, True), errors
    assert not (server.settings.data_dir / "rules.json").exists()


def test_a_running_server_that_cannot_be_reached_is_said_so(quality: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRELABEL_PORT", "1")
    code, _, errors = quality("--try-rule", HELPS)
    assert code == 1
    assert "A server has the data folder" in errors
    assert "PRELABEL_PORT" in errors


def test_where_no_server_runs_the_command_starts_the_model_and_ends_it(tmp_path: Path) -> None:
    engine, images = FakeEngine(answers), NumberedImages()
    settings = load_settings({"data_dir": tmp_path})
    with trial_model(settings, lambda _: engine, lambda _: images) as model:
        options = ProjectOptions(extra_instructions=HELPS)
        task = TrialTask(id=4, image="https://shop.example/4.jpg")
        reply = model(Trial(label_config=CONFIG, options=options, tasks=(task,)))
        assert '"夏季"' in reply.answers[0].content
    assert engine.status.state == "stopped"


def test_a_model_that_is_still_loading_is_said_so(tmp_path: Path) -> None:
    with serving(tmp_path, FakeEngine({}, ready=False)) as server:
        server.engine.status = replace(server.engine.status, state="failed", message="no card")
        settings = load_settings({"data_dir": tmp_path, "port": server.port})
        with trial_model(settings) as model, pytest.raises(PrelabelError, match="cannot answer now"):
            model(Trial(label_config=CONFIG, options=ProjectOptions()))


@pytest.mark.parametrize("num", [1, 2, 3, 4])
def test_confused_pictures_are_put_together_in_one(num: int) -> None:
    address = put_together([Picture(40 * (1 + place), 30, bytes(40 * (1 + place) * 30 * 3)) for place in range(num)])
    shown = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    assert shown.size == {1: (384, 384), 2: (768, 384), 3: (768, 768), 4: (768, 768)}[num]


@pytest.fixture
def project() -> Iterator[FakeLabelStudio]:
    with fake_label_studio() as fake:
        fake.add_project("A", "<View/>")
        yield fake


def test_an_adopted_rule_joins_what_people_typed_and_nothing_else_changes(
    project: FakeLabelStudio,
) -> None:
    typed = {**TYPED, "calibration": {"season": 2.0}}
    add_backend(project, extra_params=typed)
    apply(project, found_quality(80, 0))
    before, told = typed_now(project), list[str]()
    with LabelStudioClient(project.url, LEGACY_KEY) as client:
        to = ModelSettings(client, 1, Sentences("en"), told.append)
        adopt_rule(to, before, "Name the material.\nA rule.")

    backend = project.backends[1]
    assert backend["extra_params"] == {**typed, "extra_instructions": "Name the material.\nA rule."}
    assert filters(project) == {}, "nothing says any more that tasks may pass by the scores of the earlier answers"
    shown = "\n".join(told)
    assert '{"extra_instructions": "Name the material.\\nA rule."}; all else there stays.' in shown
    assert 'taking out review_thresholds = {"season": 0.05} and the two tabs of --apply' in shown
    assert "Retrieve Predictions once more" in shown
    assert "calibration was found on the answers before it" in shown


@pytest.mark.parametrize(
    ("typed", "before", "said"),
    [
        (TYPED, {**TYPED, "extra_instructions": "Something else."}, "were changed since"),
        ({**TYPED, "temperature": 0.9}, TYPED, "were changed since"),
        ({"extra_instructions": "x" * 2_001}, {}, "none that can be used"),
    ],
)
def test_a_rule_is_not_written_where_other_settings_are_typed_than_it_was_tried_under(
    project: FakeLabelStudio, typed: dict[str, Any], before: dict[str, Any], said: str
) -> None:
    backend = add_backend(project, extra_params=typed)
    with LabelStudioClient(project.url, LEGACY_KEY) as client, pytest.raises(UsageError, match=said):
        adopt_rule(ModelSettings(client, 1, Sentences("en"), print), options_of(before), "A rule.")
    assert backend["extra_params"] == typed
    assert project.changes == []
