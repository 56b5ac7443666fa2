"""Background tasks end with their block."""

import asyncio

import pytest

from app.services import in_background


def test_a_task_that_loses_a_cancellation_still_ends() -> None:
    lost = 0

    async def ignoring_the_first() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
                if lost > 1:
                    raise

    async def act() -> None:
        async with in_background(ignoring_the_first()):
            await asyncio.sleep(0)

    asyncio.run(act())
    assert lost == 2


def test_the_error_of_a_task_is_raised() -> None:
    async def broken() -> None:
        raise LookupError("a bug")

    async def act() -> None:
        async with in_background(broken()):
            await asyncio.sleep(0)

    with pytest.raises(LookupError, match="a bug"):
        asyncio.run(act())
