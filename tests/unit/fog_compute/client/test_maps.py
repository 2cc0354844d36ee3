"""Maps as both faces drive them: names, what each task is given, and where all stand."""

from __future__ import annotations

import itertools

import pytest

from fog_compute.client.maps import _MOVES, _TO, As, Giving, MapState, Progress, _Step, names_of
from fog_compute.errors import BackendError, InvalidTask
from fog_compute.tasks import TaskState

BATCH = "b" * 26


def state_of(total: int, most: int | None = None) -> MapState:
    return MapState(total, name="name", batch=BATCH, most=most)


def queue(state: MapState, *ids: str) -> None:
    state.queued({"batch": BATCH, "tasks": list(ids), "warning": ""}, len(ids))


def tell(state: MapState, *moves: tuple[str, str]) -> None:
    events = [{"task": task_id, "state": at} for task_id, at in moves]
    state.told({"events": events, "next": state.since + len(moves)})  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("own", "names"),
    [
        ([], []),
        (["a", "b"], ["a", "b"]),
        (["x", "y", "x"], ["0-x", "y", "2-x"]),
        (["x", "", "x"], ["0-x", "1", "2-x"]),
        (["x", "x", "0-x"], ["0-x", "1-x", "2-0-x"]),
        (["", "0"], ["0", "1-0"]),
        (["x"] * 11, [f"{at:02}-x" for at in range(11)]),
    ],
)
def test_inputs_are_called_as_their_files_and_no_two_alike(
    own: list[str], names: list[str]
) -> None:
    """INV-TASK-147."""
    assert names_of(own) == names
    assert len(set(names)) == len(names)


def test_a_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidTask, match="is no UTF-8"):
        names_of(["a", "\udcff"])


def test_a_name_that_no_task_could_have_is_refused_however_it_is_given() -> None:
    with pytest.raises(InvalidTask, match=r"the input name 'a\\tb' .* holds a control character"):
        names_of(["a", "a\tb"])


@pytest.mark.parametrize(
    ("asked", "args", "given"),
    [
        (None, ("-x",), {"argv": ["-x"], "inputs": {"s": "1"}, "stdin": "2"}),
        (None, ("{}{}",), {"argv": ["nn"], "inputs": {"s": "1", "n": "2"}}),
        (As.STDIN, ("{}",), {"argv": ["n"], "inputs": {"s": "1"}, "stdin": "2"}),
        (As.ARGUMENT, ("i={}",), {"argv": ["i=n"], "inputs": {"s": "1"}}),
    ],
)
def test_each_task_is_given_its_input(
    asked: As | None, args: tuple[str, ...], given: dict[str, object]
) -> None:
    """INV-TASK-147."""
    giving = Giving(Giving.chosen(asked, args), args, {"s": "1"})
    assert giving.to("n", "2") == given
    assert giving.own == {"s": "1"}


def test_a_task_moves_as_its_events_say_and_a_last_state_stays() -> None:
    """INV-TASK-147: every state of a task has its place in the table, and every place its moves."""
    assert set(_TO) == set(TaskState)
    assert set(_MOVES) == set(_Step)
    state = state_of(4)
    queue(state, "a", "b", "c", "d")
    tell(state, ("a", "running"), ("b", "leased"), ("c", "running"), ("c", "retry"), ("d", "new"))
    assert state.progress == Progress(total=4, queued=4, running=2, done=0, failed=0)
    tell(state, ("a", "accepted"), ("b", "failed"), ("b", "running"), ("c", "cancelled"))
    assert state.progress == Progress(total=4, queued=4, running=0, done=3, failed=2)
    assert list(state.open_ids()) == ["d"]
    before = state.over
    tell(state, ("d", "accepted"))
    assert (before, state.over) == (False, True)
    assert state.query == {"since": 10, "batch": BATCH}


def test_results_are_taken_in_the_order_of_their_inputs_and_a_bad_one_counts() -> None:
    """INV-TASK-147."""
    state = state_of(2)
    queue(state, "a", "b")
    tell(state, ("b", "accepted"))
    found = [state.next_over]
    tell(state, ("a", "accepted"))
    found.append(state.next_over)
    state.taken(ok=False)
    found.append(state.next_over)
    left = [not state.all_taken]
    state.taken(ok=True)
    assert found == [None, (0, "a"), (1, "b")]
    assert [*left, state.all_taken] == [True, True]
    assert state.progress == Progress(total=2, queued=2, running=0, done=2, failed=1)


def test_what_is_told_of_a_task_before_its_id_is_known_is_kept_for_it() -> None:
    """INV-TASK-147."""
    state = state_of(2)
    tell(state, ("a", "running"), ("a", "accepted"), ("b", "running"))
    assert state.progress == Progress(total=2, queued=0, running=0, done=0, failed=0)
    queue(state, "a", "b")
    assert state.progress == Progress(total=2, queued=2, running=1, done=1, failed=0)


@pytest.mark.parametrize("ids", [(), ("c",), ("c", "d", "e"), ("c", "c"), ("a", "c")])
def test_an_answer_with_other_tasks_than_were_asked_for_is_refused(ids: tuple[str, ...]) -> None:
    """INV-TASK-147: or results would be handed out as those of other inputs."""
    state = state_of(4)
    queue(state, "a", "b")
    with pytest.raises(BackendError, match="other tasks than it was given"):
        state.queued({"batch": BATCH, "tasks": list(ids), "warning": ""}, 2)
    assert state.ids == ["a", "b"]


def test_each_request_has_a_name_of_its_own_and_all_are_one_batch() -> None:
    """INV-TASK-147."""
    state = state_of(3, most=2)
    first, key = state.request([{"argv": ["x"]}, {"argv": ["y"]}])
    assert (first["batch"], key) == (BATCH, "name-0")
    assert state.has_room(2)
    queue(state, "a", "b")
    assert not state.has_room(1)
    tell(state, ("b", "failed"))
    assert state.has_room(1)
    assert not state.has_room(2)
    assert state.request([{"argv": ["z"]}])[1] == "name-2"


class Id(str):
    """A task's id that counts how often it is looked up."""

    __slots__ = ()
    looks = itertools.count()

    def __hash__(self) -> int:
        """Count."""
        next(self.looks)
        return super().__hash__()

    __eq__ = str.__eq__


def looks_of(total: int, block: int) -> int:
    """How often ids are looked up in a map whose tasks end one page after the other."""
    Id.looks = itertools.count()
    ids = [Id(at) for at in range(total)]
    state = state_of(total)
    for start in range(0, total, block):
        queue(state, *ids[start : start + block])
    for task_id in ids:
        tell(state, (task_id, "running"))
        tell(state, (task_id, "accepted"))
        assert state.next_over is not None
        assert state.progress.queued == total
        state.taken(ok=True)
    assert state.over
    return next(Id.looks)


def test_what_happens_to_a_task_costs_the_same_however_many_there_are() -> None:
    """INV-TASK-147."""
    assert looks_of(700, 7) == 10 * looks_of(70, 7)
