"""What a person is told of a load: never back, not too often, and the pace of the last seconds."""

from __future__ import annotations

from model_loader.progress import SELDOM_S, Pace, Progress


class Told:
    def __init__(self) -> None:
        self.now, self.events = 100.0, list[tuple[str, float, Pace]]()
        self.progress = Progress(lambda *event: self.events.append(event), lambda: self.now)

    def last(self) -> tuple[str, float, Pace]:
        return self.events[-1]


def test_the_pace_is_that_of_the_bytes_of_the_stage() -> None:
    told = Told()
    report = told.progress.enter("download", 0.0, 0.5, size_bytes=60_000)
    assert told.last() == ("download", 0.0, Pace(counts_bytes=True))
    told.now += 10
    report(0.25)
    assert told.last() == ("download", 0.125, Pace(left_s=30.0, bytes_per_s=1_500.0, counts_bytes=True))


def test_a_download_that_becomes_slow_is_told_as_slow() -> None:
    told = Told()
    report = told.progress.enter("download", 0.0, 1.0, size_bytes=1_000_000)
    for share in (0.1, 0.2, 0.3, 0.4, 0.5):
        told.now += 10
        report(share)
    for share in range(501, 506):
        told.now += 10
        report(share / 1000)
        if share == 502:
            assert told.last()[2].bytes_per_s < 1_000, "the pace is not of the last seconds"
    assert told.last()[2].bytes_per_s < 1_000


def test_small_steps_are_told_seldom_and_none_goes_back() -> None:
    told = Told()
    report = told.progress.enter("load", 0.0, 1.0)
    assert not told.last()[2].counts_bytes
    for step in range(100):
        told.now += SELDOM_S / 10
        report(step / 100_000)
    assert 8 <= len(told.events) <= 12
    report(0.5)
    report(0.1)
    told.now += SELDOM_S
    report(0.2)
    assert [fraction for _, fraction, _ in told.events][-2:] == [0.5, 0.5]


def test_who_is_asked_may_fall_silent_before_anybody_knows_how_much_will_come() -> None:
    told = Told()
    told.progress.enter("resolve", 0.0, 0.02, asks=True)
    assert told.last() == ("resolve", 0.0, Pace(counts_bytes=True))
