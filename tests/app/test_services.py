"""What runs beside the requests ends with the block that it runs in, however deaf it is."""

import asyncio

import pytest

from app.services import in_background


def test_a_task_that_loses_a_cancellation_ends_all_the_same() -> None:
    lost = 0

    async def deaf() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
                if lost > 1:
                    raise

    async def act() -> None:
        async with in_background(deaf()):
            await asyncio.sleep(0)

    asyncio.run(act())
    assert lost == 2


def test_what_a_task_died_of_is_told() -> None:
    async def broken() -> None:
        raise LookupError("of a bug")

    async def act() -> None:
        async with in_background(broken()):
            await asyncio.sleep(0)

    with pytest.raises(LookupError, match="of a bug"):
        asyncio.run(act())
