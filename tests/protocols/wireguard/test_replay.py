"""Every counter passes once: the edges, the vectors Linux and Go use, and a slow oracle."""

from hypothesis import given, settings
from hypothesis import strategies as st

from lanrage.protocols.wireguard.constants import REJECT_AFTER_MESSAGES
from lanrage.protocols.wireguard.replay import ReplayWindow

DISTANCE = 8128
LIMIT = DISTANCE + 1
LAST = REJECT_AFTER_MESSAGES


def take(window: ReplayWindow, counter: int) -> bool:
    if not window.is_fresh(counter):
        return False
    window.mark(counter)
    return True


def takes(window: ReplayWindow, counters: list[int]) -> list[bool]:
    return [take(window, counter) for counter in counters]


def test_8127_and_8128_behind_the_newest_pass_and_8129_does_not() -> None:
    window = ReplayWindow()
    newest = 20_000
    assert takes(window, [newest, newest - 8129, newest - 8128, newest - 8127]) == [
        True,
        False,
        True,
        True,
    ]
    assert takes(window, [newest - 8128, newest - 8127]) == [False, False]


def test_the_steps_of_linux_and_go() -> None:
    # (counter, accepted) as in replay/replay_test.go, with its T_LIM and RejectAfterMessages.
    steps = [
        (0, 1), (1, 1), (1, 0), (9, 1), (8, 1), (7, 1), (7, 0),
        (LIMIT, 1), (LIMIT - 1, 1), (LIMIT - 1, 0), (LIMIT - 2, 1), (2, 1), (2, 0),
        (LIMIT + 16, 1), (3, 0), (LIMIT + 16, 0),
        (LIMIT * 4, 1), (LIMIT * 4 - (LIMIT - 1), 1), (10, 0), (LIMIT * 4 - LIMIT, 0),
        (LIMIT * 4 - (LIMIT + 1), 0), (LIMIT * 4 - (LIMIT - 2), 1), (LIMIT * 4 + 1 - LIMIT, 0),
        (0, 0), (LAST, 0), (LAST - 1, 1), (LAST, 0), (LAST - 1, 0), (LAST - 2, 1),
        (LAST + 1, 0), (LAST + 2, 0), (LAST - 2, 0), (LAST - 3, 1), (0, 0),
    ]  # fmt: skip
    window = ReplayWindow()
    assert takes(window, [c for c, _ in steps]) == [bool(accepted) for _, accepted in steps]


def test_the_bulk_runs_of_linux_and_go() -> None:
    ups = [
        (range(1, DISTANCE + 1), [(0, True), (0, False)]),
        (range(2, DISTANCE + 2), [(1, True), (0, False)]),
        (range(DISTANCE + 1, 0, -1), []),
        (range(DISTANCE + 2, 1, -1), [(0, False)]),
        (range(DISTANCE, 0, -1), [(DISTANCE + 1, True), (0, False)]),
        (range(DISTANCE, 0, -1), [(0, True), (DISTANCE + 1, True)]),
    ]
    for bulk, after in ups:
        window = ReplayWindow()
        assert all(takes(window, list(bulk)))
        assert takes(window, [c for c, _ in after]) == [accepted for _, accepted in after]


def test_a_gap_of_2_to_the_63_costs_no_memory() -> None:
    window = ReplayWindow()
    assert takes(window, [5, 2**63, 2**63 - DISTANCE, 5]) == [True, True, True, False]
    assert window.bits.bit_length() <= 8192


def test_close_to_the_last_counter_nothing_skips_the_check() -> None:
    window = ReplayWindow()
    assert window.next_in_order() == 0
    window.mark(41)
    assert window.next_in_order() == 42
    window.mark(LAST - 1)
    assert window.next_in_order() == -1


class SlowWindow:
    """A set of everything ever seen."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def take(self, counter: int) -> bool:
        behind = max(self.seen, default=counter) - counter
        if counter in self.seen or behind > DISTANCE or counter >= LAST:
            return False
        self.seen.add(counter)
        return True


counters = st.one_of(
    st.integers(0, 40),
    st.integers(0, 30_000),
    st.integers(LAST - 30_000, LAST + 3),
    st.integers(0, 2**64 - 1),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(counters, max_size=60))
def test_any_order_of_counters_agrees_with_a_set(order: list[int]) -> None:
    window, slow = ReplayWindow(), SlowWindow()
    assert takes(window, order) == [slow.take(counter) for counter in order]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 20_000), st.lists(st.integers(0, 30_000), max_size=4)), max_size=6
    )
)
def test_a_run_counts_as_each_of_its_counters(story: list[tuple[int, list[int]]]) -> None:
    window, each = ReplayWindow(), ReplayWindow()
    for run, singles in story:
        for counter in range(each.next, each.next + run):
            each.mark(counter)
        window.advance(run)
        assert takes(window, singles) == takes(each, singles)
        assert (window.next, window.bits) == (each.next, each.bits)
