"""The blind audit in the store: which tasks are withheld, from whom, and until when."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from backend.store import Store, Work, WorkState
from backend.store.audit import chooses
from backend.store.people import LabelledTask
from tests.backend.store.given import ANSWER, RECIPE, accepted, opened, states, task, tasks

P = RECIPE.project
NUM = 40
LATER = 1_000.0


def audit(store: Store, share: float, now: float, version: str = "v1") -> None:
    store.set_present(replace(RECIPE, fingerprint=f"recipe-{version}"), version, now, share)


def answered(store: Store, now: float = 2.0, version: str = "v1", num: int = NUM) -> list[Work]:
    """All that waits is answered."""
    store.save_recipe(replace(RECIPE, fingerprint=f"recipe-{version}"), now)
    rows = [store.finish(row.id, ANSWER, 0.9, True, now) for row in store.claim(num, now)]
    return [row for row in rows if row]


def audited(store: Store, share: float = 0.5, num: int = NUM) -> set[int]:
    """`num` tasks are asked for and answered; the tasks that are withheld."""
    accepted(store, tasks(1))
    audit(store, share, 1.5)
    accepted(store, tasks(num), 1.6)
    return withheld(answered(store, num=num))


def withheld(rows: Collection[Work]) -> set[int]:
    return {row.task_id for row in rows if row.state is WorkState.WITHHELD}


def told(store: Store, now: float = LATER) -> set[int]:
    """By a push of all that is due, which arrives."""
    rows = store.take_due(P, 999, now + 60.0, now)
    store.delivered([row.id for row in rows], now)
    return {row.task_id for row in rows}


@pytest.mark.parametrize("share", [0.0, 0.02, 0.05, 0.5])
def test_about_as_many_are_chosen_as_were_asked_for_and_those_of_a_smaller_share_among_them(share: float) -> None:
    key = b"k" * 32
    chosen = [n for n in range(20_000) if chooses(key, P, str(n), share)]
    assert len(chosen) == pytest.approx(20_000 * share, rel=0.15)
    assert all(chooses(key, P, str(n), 1.5 * share) for n in chosen)


def test_the_choice_is_of_key_project_and_task_alone() -> None:
    def choice(key: bytes = b"k", project: str = P) -> list[bool]:
        return [chooses(key, project, str(n), 0.5) for n in range(64)]

    assert choice() == choice()
    assert choice() != choice(key=b"l")
    assert choice() != choice(project="13.17")
    assert chooses(b"k", "1", "23", 0.5) != chooses(b"k", "12", "3", 0.5) or choice() != choice(project="1")


def test_a_restart_another_order_and_another_version_withhold_the_same_tasks(path: Path) -> None:
    with opened(path) as store:
        before = audited(store)
        assert 0 < len(before) < NUM
        assert told(store) == {n for n in range(1, NUM + 1)} - before
    with opened(path, 20.0) as store:
        assert store.withheld_tasks(P, range(NUM, 0, -1), 0.5) == before
        audit(store, 0.5, LATER + 1, "v2")
        assert withheld(answered(store, LATER + 2, "v2")) == before
        assert told(store, LATER + 3) == set()


def test_another_data_folder_withholds_other_tasks(tmp_path: Path) -> None:
    with opened(tmp_path / "a.db") as one, opened(tmp_path / "b.db") as other:
        assert audited(one) != audited(other)


def reply(store: Store, ids: list[int]) -> set[int]:
    sent = store.returned(ids, LATER + 120.0, LATER)
    return {row.task_id for row in store.take_due(P, 999, 3 * LATER, 2 * LATER) if row.id in sent}


WAYS_OUT: dict[str, Callable[[Store, list[int]], set[int]]] = {
    "a push": lambda store, ids: told(store),
    "a reply": reply,
    "a look at what is due": lambda store, ids: {row.task_id for row in store.due(P, 999, LATER)},
}


@pytest.mark.parametrize("way", WAYS_OUT.values(), ids=WAYS_OUT)
def test_no_way_out_of_the_store_is_open_to_what_is_withheld(store: Store, way: Callable[..., set[int]]) -> None:
    kept = audited(store)
    rows = accepted(store, tasks(NUM), 3.0)
    assert way(store, [row.id for row in rows]) == {row.task_id for row in rows} - kept


@pytest.mark.parametrize("way", ["a push", "a reply"])
def test_what_was_answered_before_the_audit_began_and_not_told_is_chosen_on_its_way_out(store: Store, way: str) -> None:
    rows = accepted(store, tasks(NUM))
    assert withheld(answered(store)) == set()
    audit(store, 0.5, 3.0)
    kept = store.withheld_tasks(P, range(1, NUM + 1), 0.5)
    assert WAYS_OUT[way](store, [row.id for row in rows]) == {row.task_id for row in rows} - kept
    assert states(store)[WorkState.WITHHELD] == len(kept)


@pytest.mark.parametrize("way", ["a push", "a reply"])
def test_a_task_that_was_told_is_never_withheld_under_no_version_and_with_no_other_picture(
    store: Store, way: str
) -> None:
    rows = accepted(store, tasks(NUM))
    answered(store)
    WAYS_OUT[way](store, [row.id for row in rows])
    audit(store, 0.5, 2 * LATER, "v2")
    accepted(store, [task(n, version="v2") for n in range(1, NUM + 1)], 2 * LATER)
    assert withheld(answered(store, 2 * LATER, "v2")) == set()
    audit(store, 0.5, 3 * LATER, "v1")
    accepted(store, [task(n, url="https://pictures/2") for n in range(1, NUM + 1)], 3 * LATER)
    assert withheld(answered(store, 3 * LATER)) == set()
    assert store.withheld_tasks(P, range(1, NUM + 1), 0.5) == set()


def test_what_is_withheld_stays_so_with_a_smaller_share_another_version_and_another_picture(store: Store) -> None:
    kept = audited(store)
    audit(store, 0.01, 3.0, "v2")
    assert states(store) == {WorkState.QUEUED: NUM}, "each once"
    assert withheld(answered(store, 4.0, "v2")) == kept
    accepted(store, [task(n, version="v2", url="https://pictures/2") for n in range(1, NUM + 1)], 5.0)
    assert withheld(answered(store, 6.0, "v2")) == kept
    assert told(store) == {*range(1, NUM + 1)} - kept


def people_labelled(store: Store, task_ids: Iterable[int], *, skipped: bool = False) -> None:
    """As it is read from Label Studio."""
    store.begin_reading(P, LATER)
    tasks = [LabelledTask(task_id, LATER, int(not skipped), int(skipped), "{}") for task_id in task_ids]
    store.save_people(P, tasks, {}, until=LATER, after=NUM)


def test_when_people_have_labelled_them_they_are_delivered_and_never_withheld_again(store: Store) -> None:
    kept = audited(store)
    told(store)
    labelled, skipped = sorted(kept)[:3], sorted(kept)[3:5]
    people_labelled(store, [*labelled, min({*range(1, NUM + 1)} - kept)])
    people_labelled(store, skipped, skipped=True)
    assert states(store)[WorkState.WITHHELD] == len(kept) - 3, "who skips a task does not label it"
    audit(store, 0.5, LATER + 1, "v2")
    assert withheld(answered(store, LATER + 2, "v2")) == kept - {*labelled}
    assert told(store, LATER + 3) == {*labelled}


def test_what_people_labelled_before_it_was_answered_is_not_withheld(store: Store) -> None:
    kept = audited(store)
    audit(store, 0.5, 3.0, "v2")
    labelled = sorted(kept)[:3]
    people_labelled(store, labelled)
    new = NUM + next(n for n in range(1, 99) if store.withheld_tasks(P, [NUM + n], 0.5))
    people_labelled(store, [new])
    accepted(store, [task(new, version="v2")], 4.0)
    assert withheld(answered(store, 5.0, "v2", NUM + 1)) == kept - {*labelled}
    assert store.audited_tasks(P) == kept, "nobody can say that of the other: it was labelled before it was chosen"


def test_which_tasks_were_labelled_blind_is_known_for_good(store: Store) -> None:
    kept = audited(store)
    told(store)
    assert store.audited_tasks(P) == kept, "those nobody has labelled yet among them"
    labelled = set(sorted(kept)[:3])
    people_labelled(store, labelled)
    told(store, LATER + 1)
    audit(store, 0.0, LATER + 2)
    told(store, LATER + 3)
    store.forget_people(P)
    store.prune(LATER * 1_000, 1.0)
    assert store.audited_tasks(P) == labelled, "the others were shown before"


def test_what_label_studio_has_lost_is_withheld_no_longer(store: Store) -> None:
    kept = audited(store)
    told(store)
    store.recover(LATER)  # no request is open any more
    asked = {task_id for _, task_id in store.tasks_at_rest(P, 0, NUM, LATER, told=False)}
    assert asked == kept, "Label Studio is asked about them"
    lost = sorted(kept)[:2]
    store.tasks_gone(P, lost, "task_deleted", LATER)
    [summary] = store.summary()
    assert (summary.states[WorkState.WITHHELD], summary.gone) == (len(kept) - 2, {"task_deleted": 2})


def test_a_project_that_is_back_shows_nothing_that_is_withheld(store: Store) -> None:
    kept = audited(store)
    audit(store, 0.5, 3.0, "v2")
    rows = answered(store, 4.0, "v2")
    store.project_gone(P, "project_deleted", 5.0)
    assert store.project_back(P, 6.0) == NUM
    assert WAYS_OUT["a reply"](store, [row.id for row in rows]) == {row.task_id for row in rows} - kept
    assert told(store, 4 * LATER) & kept == set()


def test_with_a_share_of_0_everything_is_delivered(store: Store) -> None:
    kept = audited(store)
    told(store)
    audit(store, 0.0, LATER)
    assert WorkState.WITHHELD not in states(store)
    assert told(store, LATER) == kept


def test_a_request_from_before_a_change_of_the_share_undoes_nothing(store: Store) -> None:
    audited(store)
    audit(store, 0.0, 10.0)
    audit(store, 0.5, 9.0)
    assert store.audit_share(P) == 0.0
    audit(store, 0.5, 11.0)
    store.set_present(replace(RECIPE, fingerprint="recipe-v1"), "v1", 12.0)
    assert store.audit_share(P) == 0.5, "who says nothing of it leaves it as it is"


def test_the_first_task_of_a_project_is_audited_too(store: Store) -> None:
    rows = store.accept(tasks(NUM), interactive=True, reply_until=9.0, now=1.0, audit_share=0.5)
    kept = withheld(answered(store))
    assert 0 < len(kept) < NUM
    assert len(store.returned([row.id for row in rows], 99.0, 3.0)) == NUM - len(kept)


def test_what_is_withheld_is_counted_as_that_alone_and_never_forgotten(store: Store) -> None:
    kept = audited(store)
    told(store)
    [summary] = store.summary()
    assert summary.states == {WorkState.DELIVERED: NUM - len(kept), WorkState.WITHHELD: len(kept)}
    assert (summary.num_tasks, summary.num_delivered, summary.num_needs_review) == (
        NUM,
        NUM - len(kept),
        NUM - len(kept),
    )
    store.prune(LATER * 1_000, 1.0)
    assert states(store) == {WorkState.WITHHELD: len(kept)}
    assert store.answer(ANSWER.key) == ANSWER
