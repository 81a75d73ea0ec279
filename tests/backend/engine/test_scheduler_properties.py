"""Random use of the scheduler: nothing is lost or shared, the order is kept, and every request ends.

`Device` stands for the engine: it does every turn it is told to, and checks each against the rules as the outside
sees them. A request runs for 0 to 4 decode steps; 0 means that its first token was its last.
"""

from collections import deque
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from backend.engine.scheduler import Decode, KvTooSmall, Prefill, Scheduler, SchedulerLimits, Slot, SlotRequest, Turn
from tests.backend.engine.all_free import assert_all_is_free
from tests.limits import examples

BLOCK = 16
MAX_STEPS = 4
# An upper limit of turns from one admission of bulk to the next: eight interactive admissions and bulk itself may each
# wait for all that runs, which takes MAX_STEPS decodes of all; between two of those lie at most 8 prefills and, before
# each and the decode, 3 decodes of interactive requests.
TURNS_PER_ADMISSION = 9 * MAX_STEPS * (9 * 3 + 9)


@st.composite
def scheduler_limits(draw: st.DrawFn) -> SchedulerLimits:
    max_slots = draw(st.integers(1, 12))
    kv_tokens = draw(st.integers(BLOCK, 40 * BLOCK))
    return SchedulerLimits(
        max_slots=max_slots,
        kv_tokens=kv_tokens,
        reserved_slots=draw(st.integers(0, max_slots - 1)),
        reserved_tokens=draw(st.integers(0, kv_tokens)),
        max_prefill_tokens=draw(st.integers(1, 200)),
        block_tokens=BLOCK,
    )


class Device:
    """Does what the scheduler says. `waiting` and `running` are what the outside knows."""

    def __init__(self, limits: SchedulerLimits) -> None:
        self.limits = limits
        self.planner = Scheduler(limits)
        self.max_prefill_tokens = limits.max_prefill_tokens
        self.bulk_end = (limits.kv_tokens - limits.reserved_tokens) // BLOCK * BLOCK
        self.waiting: dict[int, SlotRequest] = {}
        self.running: dict[int, tuple[SlotRequest, Slot]] = {}
        self.steps: dict[int, int] = {}
        self.admitted: list[int] = []
        self.in_a_row = 0  # interactive admissions while bulk waits and could go on
        self.since_all: deque[Turn] = deque(maxlen=1000)  # turns since the last decode of all

    def submit(self, request: SlotRequest, steps: int) -> None:
        if not any(not other.interactive for other in self.waiting.values()):
            self.in_a_row = 0
        self.planner.submit(request)
        self.waiting[request.request_id] = request
        self.steps[request.request_id] = steps

    def cancel(self, request_id: int) -> None:
        assert self.planner.cancel(request_id) == (request_id in self.waiting)
        self.waiting.pop(request_id, None)

    def finish(self, request_id: int) -> None:
        self.planner.finish(request_id)
        del self.running[request_id]

    def turn(self) -> Turn | None:
        turn = self.planner.next_turn()
        match turn:
            case Prefill(slots):
                self._prefill(slots)
                self.since_all.append(turn)
            case Decode(slots):
                self._decode(slots)
                self.since_all.append(turn)
                if len(slots) == self._num_running_before:
                    self.since_all.clear()
            case None:
                assert not self.waiting
                assert not self.running
        self._check_all_decode_often()
        return turn

    def _prefill(self, slots: tuple[Slot, ...]) -> None:
        assert slots
        requests = [self.waiting.pop(slot.request_id) for slot in slots]
        assert len({request.interactive for request in requests}) == 1, "interactive and bulk share a prefill"
        assert len(requests) == 1 or sum(request.num_prefill for request in requests) <= self.max_prefill_tokens
        self._check_order(requests, slots)
        for request, slot in zip(requests, slots, strict=True):
            self._check_place(request, slot)
            self.running[request.request_id] = (request, slot)
            self.admitted.append(request.request_id)
        alone = [request for request, _ in self.running.values() if request.alone]
        assert not alone or len(self.running) == 1, "a request that runs alone has neighbours"
        self._end_those_done(slots)

    def _check_order(self, requests: list[SlotRequest], slots: tuple[Slot, ...]) -> None:
        bulk_waits = any(not request.interactive for request in self.waiting.values())
        if requests[0].interactive:
            self.in_a_row = self.in_a_row + len(requests) if bulk_waits else 0
            num_interactive = sum(request.interactive for request, _ in self.running.values()) + len(requests)
            if self.in_a_row > 8:
                assert num_interactive <= self.limits.reserved_slots, "bulk gets no turn"
                assert min(slot.offset for slot in slots) >= self.bulk_end, "bulk loses its region"
            return
        if any(request.interactive for request in self.waiting.values()):
            assert self.in_a_row >= 8, "bulk overtakes an interactive request"
            assert len(requests) == 1
        self.in_a_row = 0

    def _check_place(self, request: SlotRequest, slot: Slot) -> None:
        assert slot.num_tokens == -(-request.num_tokens // BLOCK) * BLOCK
        assert 0 <= slot.offset <= slot.offset + slot.num_tokens <= self.limits.kv_tokens
        if request.interactive:
            return
        num_bulk = sum(not other.interactive for other, _ in self.running.values())
        assert num_bulk < self.limits.max_slots - self.limits.reserved_slots, "bulk takes a reserved row"
        if slot.num_tokens <= self.bulk_end:
            assert slot.offset + slot.num_tokens <= self.bulk_end, "bulk takes reserved positions"

    def _decode(self, slots: tuple[Slot, ...]) -> None:
        assert slots
        assert [slot.row for slot in slots] == sorted(slot.row for slot in slots)
        for slot in slots:
            assert self.running[slot.request_id][1] == slot
        interactive = {number for number, (request, _) in self.running.items() if request.interactive}
        assert {slot.request_id for slot in slots} in ({*self.running}, interactive)
        self._num_running_before = len(self.running)
        for slot in slots:
            self.steps[slot.request_id] -= 1
        self._end_those_done(slots)

    def _end_those_done(self, slots: tuple[Slot, ...]) -> None:
        for slot in slots:
            if self.steps[slot.request_id] <= 0:
                self.finish(slot.request_id)

    def _check_all_decode_often(self) -> None:
        """At most 8 prefills and, with one of them or the decode of all after every third, 27 decodes before it."""
        if not self.running:
            self.since_all.clear()
        num_prefills = sum(isinstance(turn, Prefill) for turn in self.since_all)
        assert len(self.since_all) - num_prefills <= 3 * 9, "a running request is not decoded"

    def check(self) -> None:
        assert self.planner.num_waiting == len(self.waiting)
        assert self.planner.num_running == len(self.running)
        slots = [slot for _, slot in self.running.values()]
        assert len({slot.row for slot in slots}) == len(slots)
        assert all(0 <= slot.row < self.limits.max_slots for slot in slots)
        ranges = sorted((slot.offset, slot.offset + slot.num_tokens) for slot in slots)
        assert all(end <= start for (_, end), (start, _) in pairwise(ranges))

    def run_until_idle(self) -> None:
        limit = (len(self.waiting) + len(self.running) + 1) * TURNS_PER_ADMISSION
        for _ in range(limit):
            if self.turn() is None:
                assert_all_is_free(self.planner)
                return
            self.check()
        raise AssertionError("requests do not end")


def requests(limits: SchedulerLimits, request_id: int) -> st.SearchStrategy[SlotRequest]:
    pool = limits.kv_tokens // BLOCK * BLOCK
    sizes = st.integers(1, max(1, pool // 6)) | st.integers(1, pool)
    return st.builds(
        SlotRequest,
        request_id=st.just(request_id),
        group=st.sampled_from("abc"),
        num_tokens=sizes,
        num_prefill=st.integers(1, 100),
        interactive=st.booleans(),
        alone=st.integers(0, 9).map(lambda n: n == 0),
    )


class SchedulerMachine(RuleBasedStateMachine):
    @initialize(limits=scheduler_limits())
    def start(self, limits: SchedulerLimits) -> None:
        self.device = Device(limits)
        self.next_id = 0

    @rule(data=st.data(), count=st.integers(1, 12), steps=st.integers(0, MAX_STEPS))
    def submit(self, data: st.DataObject, count: int, steps: int) -> None:
        pattern = data.draw(requests(self.device.limits, 0))
        for _ in range(count):
            request = SlotRequest(
                self.next_id, pattern.group, pattern.num_tokens, pattern.num_prefill, pattern.interactive
            )
            self.device.submit(request, steps)
            self.next_id += 1

    @rule(data=st.data(), steps=st.integers(0, MAX_STEPS))
    def submit_one(self, data: st.DataObject, steps: int) -> None:
        self.device.submit(data.draw(requests(self.device.limits, self.next_id)), steps)
        self.next_id += 1

    @rule(interactive=st.booleans(), more=st.integers(1, 1000))
    def submit_too_much(self, interactive: bool, more: int) -> None:
        size = self.device.limits.kv_tokens // BLOCK * BLOCK + more
        try:
            self.device.planner.submit(SlotRequest(self.next_id, "a", size, 1, interactive))
        except KvTooSmall:
            return
        raise AssertionError("a request larger than the pool was taken")

    @precondition(lambda self: self.next_id)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.device.cancel(data.draw(st.integers(0, self.next_id)))

    @rule(count=st.integers(1, 6))
    def turns(self, count: int) -> None:
        for _ in range(count):
            self.device.turn()

    @precondition(lambda self: self.device.running)
    @rule(data=st.data())
    def finish_early(self, data: st.DataObject) -> None:
        self.device.finish(data.draw(st.sampled_from(sorted(self.device.running))))

    @rule(tokens=st.integers(-1, 200))
    def limit_prefill(self, tokens: int) -> None:
        self.device.planner.limit_prefill(tokens)
        self.device.max_prefill_tokens = max(1, tokens)

    @rule(interactive_every=st.integers(1, 4), bulk_every=st.integers(1, 4), data=st.data())
    def an_endless_stream_starves_nobody(self, interactive_every: int, bulk_every: int, data: st.DataObject) -> None:
        """All that waits now ends, though new requests of one size keep coming: both kinds, any group."""
        device = self.device
        target = set(device.waiting)
        size = data.draw(requests(device.limits, 0)).num_tokens
        steps = data.draw(st.integers(0, MAX_STEPS))
        room = 3 * device.limits.max_slots + len(target)
        for turn in range((len(target) + 1) * TURNS_PER_ADMISSION):
            if not target & {*device.waiting, *device.running}:
                return
            for every, interactive in ((interactive_every, True), (bulk_every, False)):
                if turn % every == 0 and len(device.waiting) < room:
                    device.submit(SlotRequest(self.next_id, "abc"[self.next_id % 3], size, 5, interactive), steps)
                    self.next_id += 1
            device.turn()
        raise AssertionError("a waiting request is starved")

    @invariant()
    def nothing_is_lost_or_shared(self) -> None:
        if hasattr(self, "device"):
            self.device.check()

    def teardown(self) -> None:
        if hasattr(self, "device"):
            self.device.run_until_idle()


SchedulerMachine.TestCase.settings = settings(max_examples=examples(20, 500), stateful_step_count=25, deadline=None)
TestScheduler = SchedulerMachine.TestCase


@settings(max_examples=examples(25, 500), deadline=None)
@given(st.data(), scheduler_limits(), st.integers(1, 40))
def test_requests_are_admitted_in_the_order_foretold(data: st.DataObject, limits: SchedulerLimits, count: int) -> None:
    """But for interactive requests that pass inside their reserve, so here there is none."""
    limits = SchedulerLimits(limits.max_slots, limits.kv_tokens, 0, limits.reserved_tokens, limits.max_prefill_tokens)
    device = Device(limits)
    for number in range(count):
        device.submit(data.draw(requests(limits, number)), data.draw(st.integers(0, MAX_STEPS)))
    order = device.planner.upcoming(count)
    assert sorted(order) == list(range(count))
    device.run_until_idle()
    assert device.admitted == order


@settings(max_examples=examples(25, 500), deadline=None)
@given(scheduler_limits(), st.lists(st.integers(1, 30), min_size=2, max_size=5))
def test_a_small_project_is_served_beside_large_ones(limits: SchedulerLimits, sizes: list[int]) -> None:
    """While two groups wait, neither gets more than one admission ahead of the other."""
    device = Device(limits)
    group_of: dict[int, int] = {}
    for group, size in enumerate(sizes):
        for _ in range(size):
            group_of[len(group_of)] = group
            device.submit(SlotRequest(len(group_of) - 1, str(group), 1, 5), 2)
    device.run_until_idle()
    served = [0] * len(sizes)
    for request_id in device.admitted:
        served[group_of[request_id]] += 1
        still_waiting = [count for count, size in zip(served, sizes, strict=True) if count < size]
        assert not still_waiting or max(served) - min(still_waiting) <= 1
