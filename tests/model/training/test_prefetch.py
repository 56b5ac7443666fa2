"""Prefetch: items are made in a background thread."""

import threading
from collections.abc import Iterator

import pytest

from model.training.batches import Prefetch


def test_prefetch_yields_all_items_in_order() -> None:
    assert list(Prefetch(iter(range(20)), ahead=3)) == list(range(20))
    assert list(Prefetch(iter([]))) == []


def test_prefetch_stays_a_few_items_ahead() -> None:
    made, third = [], threading.Event()

    def items() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            if number == 2:
                third.set()
            yield number

    iterator = iter(Prefetch(items(), ahead=2))
    assert next(iterator) == 0
    assert third.wait(10), "the background thread makes it without a request"
    assert made == [0, 1, 2]
    assert list(iterator) == list(range(1, 10))


def test_an_error_is_raised_in_place_of_its_item() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    iterator = iter(Prefetch(items()))
    assert next(iterator) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(iterator)


def test_stopping_early_ends_the_thread() -> None:
    for number in Prefetch(iter(range(100))):
        if number == 3:
            break
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_waiting_time_is_counted() -> None:
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
