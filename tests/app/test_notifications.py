"""Notifications wake requests that wait for a job, with a real Valkey."""

import asyncio

from redis import Redis
from support.queueing import ANY, PICTURE, RESULT, claim_all

from app.notifications import Notifications
from jobs import keys
from jobs.connection import connect_async
from jobs.consumer import Consumer
from jobs.producer import Producer
from jobs.settings import QueueSettings


def test_words_do_not_wake_requests_that_wait_for_the_end(settings: QueueSettings, redis: Redis) -> None:
    consumer = Consumer(redis, settings)

    async def follow() -> None:
        async with connect_async(settings.redis_url) as client:
            producer = Producer(client, settings)
            notifications = Notifications(producer)
            listening = asyncio.create_task(notifications.listen())
            while not dict(await client.pubsub_numsub(keys.NOTIFICATIONS))[keys.NOTIFICATIONS.encode()]:
                await asyncio.sleep(0)  # until the listener has subscribed
            job_id, other = [await producer.submit(ANY, PICTURE) for _ in range(2)]
            with (
                notifications.watch(job_id) as anything,
                notifications.watch(other, job_id, end_only=True) as end,
                notifications.watch(other) as elsewhere,
            ):
                claims = await asyncio.to_thread(lambda: consumer.start(claim_all(consumer, 2)))
                (claim,) = [claim for claim in claims if claim.job_id == job_id]
                await elsewhere.wait()
                await anything.wait()  # the job has started
                assert not end.is_set()
                anything.clear()
                elsewhere.clear()
                await asyncio.to_thread(consumer.publish_words, [(claim, 0, ['{"word": 1}'])])
                await anything.wait()  # a word was published
                assert not end.is_set()
                await asyncio.to_thread(consumer.succeed, claim, RESULT)
                await end.wait()
                assert not elsewhere.is_set()
            listening.cancel()

    asyncio.run(asyncio.wait_for(follow(), timeout=60))
