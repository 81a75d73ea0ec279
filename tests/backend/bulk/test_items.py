"""Each picture once, and each under an id of its own."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from backend.bulk.items import Found, Item, Known, Listing, digest, identity_of


def _found(*pairs: tuple[str, str]) -> list[Found]:
    return [Found(image, stem, is_file=True) for image, stem in pairs]


def _ids(items: Sequence[Item]) -> list[str]:
    return [item.image_id for item in items]


SAME = _found(("/a/x.png", "x"), ("/b/x.png", "x"), ("/c/x.png", "x"), ("/d/y.png", "x-2"), ("/e/z.png", "z"))


def test_pictures_that_would_have_one_id_are_numbered_in_order() -> None:
    assert _ids(list(Listing(SAME, Known()))) == ["x", "x-2", "x-3", "x-2-2", "z"]


@given(
    st.lists(st.sampled_from(["x", "x-2", "x-3", "x-2-2", "y"]), max_size=30), st.sets(st.sampled_from(["x", "x-4"]))
)
def test_an_id_is_the_first_number_that_nobody_has(stems: list[str], in_use: set[str]) -> None:
    found = _found(*((f"/{number}/a.png", stem) for number, stem in enumerate(stems)))
    listing = Listing(found, Known(set(), {}, set(map(digest, in_use))))
    used = set(in_use)
    for item, stem in zip(listing, stems, strict=True):
        names = [stem, *(f"{stem}-{number}" for number in range(2, len(stems) + 4))]
        assert item.image_id == next(name for name in names if name not in used)
        used.add(item.image_id)


def test_a_link_that_has_come_since_gives_no_picture_another_name() -> None:
    listing = Listing(SAME[3:], Known())
    counted = list(listing)
    link = Found(SAME[3].image, "z", is_file=True)
    assert list(listing.again([link, *SAME[3:]])) == counted


def test_a_picture_named_twice_is_one() -> None:
    listing = Listing(_found(("/a/x.png", "x"), ("/a/x.png", "other"), ("/a/y.png", "y")), Known())
    assert _ids(list(listing)) == ["x", "y"]
    assert listing.num_total == 2


def test_whatever_was_done_before_the_rest_gets_the_ids_it_would_have_had() -> None:
    whole = list(Listing(SAME, Known()))
    for mask in range(1, 2 ** len(whole)):
        done = [item for number, item in enumerate(whole) if mask >> number & 1]
        known = Known({item.found.identity for item in done}, {}, {digest(item.image_id) for item in done})
        listing = Listing(SAME, known)
        rest = list(listing)
        assert list(listing.again(SAME)) == rest
        assert {item.found.image for item in rest} == {i.found.image for i in whole} - {i.found.image for i in done}
        assert len({*_ids(rest), *_ids(done)}) == len(whole)


def test_a_file_that_came_later_takes_no_id_that_is_in_use() -> None:
    known = Known({SAME[1].identity}, {}, {digest("x")})
    assert _ids(list(Listing(SAME[:2], known))) == ["x-2"]


def test_a_picture_that_has_come_since_they_were_counted_is_left_to_the_next_run() -> None:
    others = _found(("/a/x.png", "x"), ("/b/y.png", "y"))
    listing = Listing(others, Known())
    counted = list(listing)
    come = _found(("/a/new.png", "x"), ("/a/x.png", "x"), ("/a/x.png", "x"), ("/b/y.png", "y"), ("/z/z.png", "z"))
    assert list(listing.again(come)) == counted
    assert listing.num_new == 2


def test_one_that_has_gone_since_is_left_out() -> None:
    listing = Listing(SAME, Known())
    assert _ids(list(listing)) == ["x", "x-2", "x-3", "x-2-2", "z"]
    assert _ids(list(listing.again(SAME[1:]))) == ["x", "x-2", "x-2-2", "z"]


def test_what_is_known_is_counted_and_passed_over() -> None:
    known = Known({SAME[0].identity}, {SAME[1].identity: "image_corrupt"}, set())
    listing = Listing(SAME, known)
    assert len(list(listing)) == listing.num_new == 3
    assert (listing.num_total, listing.num_done_before) == (5, 1)
    assert listing.failed_before == {"image_corrupt": 1}


def test_a_limit_counts_from_the_first_picture_whatever_is_done() -> None:
    known = Known({SAME[0].identity}, {}, {digest("x")})
    listing = Listing(SAME, known, limit=2)
    assert _ids(list(listing)) == ["x-2"]
    assert listing.num_total == 2


def test_a_line_is_recognised_by_its_picture_and_its_task() -> None:
    task = Found("https://shop.example/1.jpg", "1", is_file=False, task_id=7)
    item = Item("1", task)
    assert identity_of({"image_id": "1", **item.document()}) == task.identity
    assert task.identity != Found("https://shop.example/1.jpg", "1", is_file=False).identity
    assert task.identity != Found("https://shop.example/1.jpg", "1", is_file=False, task_id=8).identity
    assert task.identity != Found("https://shop.example/2.jpg", "2", is_file=False, task_id=7).identity
