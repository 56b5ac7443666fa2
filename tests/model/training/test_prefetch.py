"""What comes next is made ready while this is used."""

import threading
from collections.abc import Iterator

import pytest

from model.training.batches import Prefetch


def test_items_come_in_their_order_and_all_of_them() -> None:
    assert list(Prefetch(iter(range(20)), ahead=3)) == list(range(20))
    assert list(Prefetch(iter([]))) == []


def test_what_comes_next_is_made_before_it_is_asked_for_but_not_much_before() -> None:
    made, third = [], threading.Event()

    def items() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            if number == 2:
                third.set()
            yield number

    iterator = iter(Prefetch(items(), ahead=2))
    assert next(iterator) == 0
    assert third.wait(10), "made in another thread, while nobody asked"
    assert made == [0, 1, 2]
    assert list(iterator) == list(range(1, 10))


def test_an_error_comes_where_the_item_would_have_come() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    iterator = iter(Prefetch(items()))
    assert next(iterator) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(iterator)


def test_whoever_stops_early_leaves_no_thread_behind() -> None:
    for number in Prefetch(iter(range(100))):
        if number == 3:
            break
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_time_spent_waiting_is_counted() -> None:
    gate = threading.Event()

    def items() -> Iterator[int]:
        gate.wait(10)
        yield 1

    prefetch = Prefetch(items())
    timer = threading.Timer(0.05, gate.set)
    timer.start()
    assert list(prefetch) == [1]
    assert prefetch.waited > 0
    timer.join()
