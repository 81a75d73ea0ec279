"""In the background of a running server: what people did is read again and again, and what it says of the answers.

One project after the other, each in a thread, for a while at a time; `known` has what the status page shows. A hint,
which anybody can send, only has a project looked at sooner, and never more often than `soonest_s` allows.
Nothing is raised: trouble is logged and told in `known`, and asked again later, each time after a longer wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from backend.errors import ConfigRefused, PrelabelError
from backend.label_studio.predictions import CallFailed, project_number
from backend.logs import one_line, redact
from backend.pages.words import Language
from backend.predict.label_configs import schema_of
from backend.quality.project import Asked, OfVersion, project_quality
from backend.quality.reading import People, read_people
from backend.quality.summary import Quality
from backend.quality.words import Sentences
from backend.store import Store, WorkState
from backend.store.people import PeopleCounts
from backend.store.threads import in_thread

log = logging.getLogger(__name__)

MAX_CHARS = 300
_ANSWERED = (WorkState.DONE, WorkState.WITHHELD, WorkState.RETURNED)
_LANGUAGES: tuple[Language, Language] = ("zh", "en")


@dataclass(frozen=True, slots=True)
class PeoplePace:
    """Seconds. `first_s`: after the start. `period_s`: between two looks at a project; `soonest_s`, after a hint.
    `settle_s`: from a hint to the look, so that what comes with it is seen as well. `read_s`: so long one look may
    read, then the others come first. `max_wait_s`: while Label Studio fails."""

    first_s: float = 30.0
    period_s: float = 900.0
    soonest_s: float = 120.0
    settle_s: float = 10.0
    read_s: float = 60.0
    max_wait_s: float = 3_600.0


@dataclass(frozen=True, slots=True)
class Looked:
    """A project when it was last looked at. `quality` is of `model_version`, the present one; None: nobody has said
    anything of any. `zh` and `en` say it in sentences. `read_at`: seconds since the epoch, 0.0 before
    the first whole reading. `error`: why Label Studio cannot be asked now."""

    model_version: str = ""
    quality: Quality | None = None
    zh: tuple[str, ...] = ()
    en: tuple[str, ...] = ()
    read_at: float = 0.0
    error: str = ""


@dataclass(slots=True)
class _Turn:
    """`stamp` stands for what `known` was made from: people's work, and our answers."""

    due_at: float
    looked_at: float = float("-inf")
    num_failures: int = 0
    stamp: tuple[PeopleCounts, str, int, float] | None = None


class PeopleWatch:
    """Use it from one event loop. `connect` is None where no API key is set; it may raise PrelabelError."""

    def __init__(
        self,
        connect: Callable[[], People] | None,
        store: Store,
        *,
        pace: PeoplePace | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._store = store
        self._pace = pace or PeoplePace()
        self._clock = clock
        self._monotonic = monotonic
        self._client: People | None = None
        self._turns: dict[str, _Turn] = {}
        self._stopping = False
        self._woken = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self.known: dict[str, Looked] = {}
        """By project, as Label Studio names it to backends: of each that the store has, as its turn is."""

    def start(self) -> None:
        if self._connect is not None:
            self._loop = asyncio.create_task(self._run(), name="people")

    def stop(self) -> None:
        """End. A call under way is left to itself; what it would have found is read after the next start."""
        self._stopping = True
        if self._loop is not None:
            self._loop.cancel()

    def hint(self, project: str) -> None:
        """People may have done something in it; Label Studio's number of it will do."""
        number = project.partition(".")[0]
        turns = [turn for name, turn in self._turns.items() if name.partition(".")[0] == number]
        for turn in turns:
            if not turn.num_failures:
                turn.due_at = min(turn.due_at, max(self._monotonic(), turn.looked_at + self._pace.soonest_s))
        self._woken.set()  # also for a number that is not known: the project may be new

    async def _run(self) -> None:
        await asyncio.sleep(self._pace.first_s)
        while True:
            self._woken.clear()
            await self.look_at_due()
            now = self._monotonic()
            next_at = min((turn.due_at for turn in self._turns.values()), default=now + self._pace.period_s)
            with contextlib.suppress(TimeoutError):
                # at least a second: whatever goes wrong, this must not become a loop without a rest
                wait_s = min(max(1.0, next_at - now), self._pace.period_s)
                await asyncio.wait_for(self._woken.wait(), wait_s)
                await asyncio.sleep(self._pace.settle_s)

    async def look_at_due(self) -> None:
        """One round: each project whose turn it is."""
        try:
            names = await in_thread(self._names)
        except PrelabelError as error:
            log.warning("what people did cannot be read: %s", error)
            return
        now = self._monotonic()
        self._turns = {name: self._turns.get(name) or _Turn(now) for name in names}
        self.known = {name: known for name, known in self.known.items() if name in self._turns}
        for name, turn in [(name, turn) for name, turn in self._turns.items() if turn.due_at <= now]:
            await self._looked(name, turn)

    def _names(self) -> list[str]:
        asked = [summary.project for summary in self._store.summary()]
        return [name for name in dict.fromkeys([*asked, *self._store.people_projects()]) if project_number(name)]

    async def _looked(self, name: str, turn: _Turn) -> None:
        known, wait_s = self.known.get(name, Looked()), self._pace.period_s
        try:
            known, is_whole = await in_thread(lambda: self._look(name, turn, known))
        except Exception as error:  # a job's border: the other projects go on
            expected = isinstance(error, PrelabelError)
            text = one_line(redact(str(error) if expected else "a fault in prelabel; its log says more"))[:MAX_CHARS]
            if known.error != text:
                level = logging.WARNING if expected else logging.ERROR
                log.log(level, "project %s: what people did cannot be read: %s", name, text, exc_info=not expected)
            known = replace(known, error=text)
            wait_s = self._back_off(turn, error)
            self._client = None
        else:
            turn.num_failures = 0
            if not is_whole:
                wait_s = 0.0
        self.known[name] = known
        turn.looked_at = self._monotonic()
        turn.due_at = turn.looked_at + wait_s

    def _back_off(self, turn: _Turn, error: Exception) -> float:
        turn.num_failures += 1
        wait_s = min(self._pace.max_wait_s, self._pace.soonest_s * 2.0 ** min(turn.num_failures, 20))
        return max(wait_s, (error.retry_after_s or 0.0) if isinstance(error, CallFailed) else 0.0)

    def _look(self, name: str, turn: _Turn, known: Looked) -> tuple[Looked, bool]:
        """What is known now, and whether all was read. Blocking. Raises PrelabelError."""
        assert self._connect is not None
        self._client = self._client or self._connect()
        ends_at = self._monotonic() + self._pace.read_s
        may_go_on = lambda: not self._stopping and self._monotonic() < ends_at  # noqa: E731
        outcome = read_people(self._client, self._store, name, self._clock(), may_go_on)
        if outcome == "some":
            return known, False
        present, counts = self._store.present(name), self._store.people_counts(name)
        if present is None or not counts.num_tasks:
            turn.stamp = None
            return Looked(read_at=self._clock()), True
        version, record = present
        share = self._store.audit_share(name)
        stamp = counts, version, self._num_answered(name), share
        if stamp != turn.stamp:
            known = self._of(name, version, record.label_config, share)
            turn.stamp = stamp
        return replace(known, read_at=self._clock(), error=""), True

    def _num_answered(self, name: str) -> int:
        summary = next((one for one in self._store.summary() if one.project == name), None)
        return summary.num_delivered + sum(summary.states.get(state, 0) for state in _ANSWERED) if summary else 0

    def _of(self, name: str, version: str, label_config: str, audit_share: float) -> Looked:
        try:
            found = project_quality(self._store, name, schema_of(label_config), version, Asked())
        except ConfigRefused:
            return Looked()
        if not found:
            return Looked()
        number, quality = name.partition(".")[0], found[0].quality
        zh, en = (tuple(_told(Sentences(language), found, number, audit_share)) for language in _LANGUAGES)
        return Looked(found[0].model_version, quality, zh, en)


def _told(say: Sentences, found: Sequence[OfVersion], number: str, audit_share: float) -> Iterator[str]:
    """Of the present model version, and of the one before it as long as nobody has said anything of that."""
    present, *others = found
    if others and not present.quality.num_blind + present.quality.num_filled:
        yield say(
            "当前的模型版本还没有人标注过；以前版本的数字不适用于它。",
            "People have said nothing yet of the present model version; figures of earlier ones do not hold for it.",
        )
        yield say.version(others[0].model_version[:MAX_CHARS], others[0].quality)
    yield from say.in_short(present.quality, number, audit_share)
