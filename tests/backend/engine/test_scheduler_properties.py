"""Random use of the scheduler: nothing is lost or shared that is not an instruction, the order is kept, all ends.

`Device` stands for the engine: it does every turn it is told to, and checks each against the rules as the outside
sees them. A request runs for 0 to 4 decode steps; 0 means that its first token was its last. In each its answer grows
by a part of what it may become, so that blocks run short.
"""

from collections import deque
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from backend.engine.group_queue import SlotRequest
from backend.engine.kv_blocks import BLOCK_TOKENS as BLOCK
from backend.engine.kv_blocks import Instruction, blocks_for
from backend.engine.scheduler import (
    MAX_PUT_BACK,
    Decode,
    KvTooSmall,
    Prefill,
    Scheduler,
    SchedulerLimits,
    Slot,
    Turn,
)
from tests.backend.engine.all_free import assert_all_is_free
from tests.limits import examples

MAX_STEPS = 4
# An upper limit of turns from one admission of bulk to the next: eight interactive admissions and bulk itself may each
# wait for all that runs, which takes MAX_STEPS decodes of all; between two of those lie at most 8 prefills and, before
# each and the decode, 3 decodes of interactive requests.
TURNS_PER_ADMISSION = 9 * MAX_STEPS * (9 * 3 + 9) * (1 + MAX_PUT_BACK)


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
        mixed_from=draw(st.sampled_from([1, 4, 20])),
    )


class Device:
    """Does what the scheduler says. `waiting` and `running` are what the outside knows."""

    def __init__(self, limits: SchedulerLimits) -> None:
        self.limits = limits
        self.planner = Scheduler(limits)
        self.max_prefill_tokens = limits.max_prefill_tokens
        self.num_blocks = limits.kv_tokens // BLOCK
        self.bulk_blocks = (limits.kv_tokens - limits.reserved_tokens) // BLOCK
        self.waiting: dict[int, SlotRequest] = {}
        self.running: dict[int, tuple[SlotRequest, Slot]] = {}
        self.steps: dict[int, int] = {}
        self.length: dict[int, int] = {}  # tokens so far
        self.num_put_back: dict[int, int] = {}
        self.admitted: list[int] = []
        self.in_a_row = 0  # interactive admissions while bulk waits and could go on
        self.since_all: deque[Turn] = deque(maxlen=1000)  # turns since the last decode of all

    def submit(self, request: SlotRequest, steps: int) -> None:
        if not any(not other.interactive for other in self.waiting.values()):
            self.in_a_row = 0
        self.planner.submit(request)
        self.waiting[request.request_id] = request
        self.steps[request.request_id] = steps
        self.length[request.request_id] = min(request.num_tokens, len(request.instruction) + request.num_prefill)
        self.num_put_back[request.request_id] = 0

    def cancel(self, request_id: int) -> None:
        assert self.planner.cancel(request_id) == (request_id in self.waiting)
        self.waiting.pop(request_id, None)

    def finish(self, request_id: int) -> None:
        self.planner.finish(request_id)
        del self.running[request_id]

    def turn(self) -> Turn | None:
        turn = self.planner.next_turn()
        match turn:
            case Prefill(slots, decoding):
                assert {slot.request_id for slot in decoding} in ({*self.running}, set())
                everybody = [*self.waiting.values(), *(request for request, _ in self.running.values())]
                assert not decoding or not any(one.interactive for one in everybody), "a mixed step beside a person"
                self._prefill(slots)
                self.since_all.append(turn)
                if decoding:
                    self._advance(decoding)
                    self.since_all.clear()
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
            self._check_row(request)
            self.running[request.request_id] = (request, slot)
            self.admitted.append(request.request_id)
        alone = [request for request, _ in self.running.values() if request.alone]
        assert not alone or len(self.running) == 1, "a request that runs alone has neighbours"
        self._have_room(slots)
        self._end_those_done(slots)

    def _have_room(self, slots: tuple[Slot, ...]) -> None:
        """As the loop does before a step: some grow, and some are put back for them."""
        for slot in slots:
            if slot.request_id in self.running:
                for number in self.planner.extend(slot.request_id, self.length[slot.request_id]):
                    self._put_back(number)

    def _put_back(self, request_id: int) -> None:
        assert not self.planner.is_running(request_id)
        request, _ = self.running.pop(request_id)
        assert not request.interactive, "a person's request is put back"
        assert not request.alone
        younger = [self.running[number][0] for number in [*self.running] if self._is_younger(number, request_id)]
        assert all(other.interactive or other.alone or self._is_whole(other) for other in younger), "an older one goes"
        self.num_put_back[request_id] += 1
        assert self.num_put_back[request_id] <= MAX_PUT_BACK, "a request is put back too often"
        if not any(not other.interactive for other in self.waiting.values()):
            self.in_a_row = 0
        self.waiting[request_id] = request

    def _is_younger(self, number: int, than: int) -> bool:
        last = {request_id: place for place, request_id in enumerate(self.admitted)}
        return last[number] > last[than]

    def _is_whole(self, request: SlotRequest) -> bool:
        is_large = blocks_for(request.num_tokens) > self.bulk_blocks
        return is_large or self.num_put_back[request.request_id] == MAX_PUT_BACK

    def _check_order(self, requests: list[SlotRequest], slots: tuple[Slot, ...]) -> None:
        bulk_waits = any(not request.interactive for request in self.waiting.values())
        if requests[0].interactive:
            self.in_a_row = self.in_a_row + len(requests) if bulk_waits else 0
            num_interactive = sum(request.interactive for request, _ in self.running.values()) + len(requests)
            if self.in_a_row > 8:
                assert num_interactive <= self.limits.reserved_slots, "bulk gets no turn"
                held = self._blocks(*self.running, slots=slots) - self._blocks(*self._bulk_ids())
                assert len(held) <= self.num_blocks - self.bulk_blocks, "bulk loses its share"
            return
        if any(request.interactive for request in self.waiting.values()):
            assert self.in_a_row >= 8, "bulk overtakes an interactive request"
            assert len(requests) == 1
        self.in_a_row = 0

    def _check_row(self, request: SlotRequest) -> None:
        if not request.interactive:
            num_bulk = len(self._bulk_ids())
            assert num_bulk < self.limits.max_slots - self.limits.reserved_slots, "bulk takes a reserved row"

    def _bulk_ids(self) -> list[int]:
        return [number for number, (request, _) in self.running.items() if not request.interactive]

    def _blocks(self, *request_ids: int, slots: tuple[Slot, ...] = ()) -> set[int]:
        running = [self.running[number][1] for number in request_ids]
        return {block for slot in (*running, *slots) for block in slot.blocks}

    def _decode(self, slots: tuple[Slot, ...]) -> None:
        assert slots
        assert [slot.row for slot in slots] == sorted(slot.row for slot in slots)
        for slot in slots:
            assert self.running[slot.request_id][1] == slot
        interactive = {number for number, (request, _) in self.running.items() if request.interactive}
        assert {slot.request_id for slot in slots} in ({*self.running}, interactive)
        self._num_running_before = len(self.running)
        self._advance(slots)

    def _advance(self, slots: tuple[Slot, ...]) -> None:
        self._have_room(slots)
        for slot in slots:
            if slot.request_id in self.running:
                self.steps[slot.request_id] -= 1
                request, _ = self.running[slot.request_id]
                more = (request.num_tokens - len(request.instruction)) // MAX_STEPS + 1
                self.length[slot.request_id] = min(request.num_tokens, self.length[slot.request_id] + more)
        self._end_those_done(slots)

    def _end_those_done(self, slots: tuple[Slot, ...]) -> None:
        for slot in slots:
            if slot.request_id in self.running and self.steps[slot.request_id] <= 0:
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
        instructions: dict[tuple[int, ...], Instruction] = {}
        blocks: list[int] = []
        for request, slot in self.running.values():
            assert slot.instruction.token_ids == request.instruction
            assert instructions.setdefault(request.instruction, slot.instruction) is slot.instruction
            assert [*slot.blocks][: len(slot.instruction.blocks)] == [*slot.instruction.blocks]
            assert len(slot.blocks) <= blocks_for(request.num_tokens)
            if request.interactive:
                assert len(slot.blocks) == blocks_for(request.num_tokens)
            blocks += slot.own_blocks
        for instruction in instructions.values():
            assert len(instruction.blocks) == len(instruction.token_ids) // BLOCK
            assert instruction.num_users == sum(slot.instruction is instruction for slot in slots)
            blocks += instruction.blocks
        assert len(set(blocks)) == len(blocks), "a block is in two hands"
        assert set(blocks) <= set(range(self.num_blocks))
        bulk = self._bulk_ids()
        if not any(blocks_for(self.running[number][0].num_tokens) > self.bulk_blocks for number in bulk):
            assert len(self._blocks(*bulk)) <= self.bulk_blocks, "bulk takes reserved blocks"

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

    def with_instruction(request: SlotRequest, name: int, num_blocks: int) -> SlotRequest:
        length = min(num_blocks, (request.num_tokens - 1) // BLOCK) * BLOCK
        num_prefill = min(request.num_prefill, request.num_tokens - length)  # no prompt is longer than it may be
        return replace(request, instruction=(name,) * length, num_prefill=num_prefill)

    plain = st.builds(
        SlotRequest,
        request_id=st.just(request_id),
        group=st.sampled_from("abc"),
        num_tokens=sizes,
        num_prefill=st.integers(1, 100),
        interactive=st.booleans(),
        alone=st.integers(0, 9).map(lambda n: n == 0),
    )
    return st.builds(with_instruction, plain, st.integers(0, 2), st.sampled_from([0, 1, 4]))


class SchedulerMachine(RuleBasedStateMachine):
    @initialize(limits=scheduler_limits())
    def start(self, limits: SchedulerLimits) -> None:
        self.device = Device(limits)
        self.next_id = 0

    @rule(data=st.data(), count=st.integers(1, 12), steps=st.integers(0, MAX_STEPS))
    def submit(self, data: st.DataObject, count: int, steps: int) -> None:
        pattern = data.draw(requests(self.device.limits, 0))
        for _ in range(count):
            self.device.submit(replace(pattern, request_id=self.next_id, alone=False), steps)
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
        pattern = replace(data.draw(requests(device.limits, 0)), num_prefill=5, alone=False)
        steps = data.draw(st.integers(0, MAX_STEPS))
        room = 3 * device.limits.max_slots + len(target)
        for turn in range((len(target) + 1) * TURNS_PER_ADMISSION):
            if not target & {*device.waiting, *device.running}:
                return
            for every, interactive in ((interactive_every, True), (bulk_every, False)):
                if turn % every == 0 and len(device.waiting) < room:
                    new = {"request_id": self.next_id, "group": "abc"[self.next_id % 3], "interactive": interactive}
                    device.submit(replace(pattern, **new), steps)
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
    assert list(dict.fromkeys(device.admitted)) == order  # whoever was put back had its turn


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
