-- Delete a job with its picture and result. A job that is not over is canceled first.
-- ARGV 4: job. Returns 1, or 0 if there is none.
local id = ARGV[4]
local record = named('job', id)
local status, owner, cache, letter = unpack(redis.call('HMGET', record, 'status', 'owner', 'cache', 'letter'))
if not status then
  return 0
end
owner = owner or ''
if status == 'queued' or status == 'processing' then
  conclude(id, 'canceled')
elseif cache and redis.call('GET', cache) == id then
  redis.call('DEL', cache)
end
redis.call('DEL', record, named('image', id), named('events', id), named('deliveries', id))
if letter then
  redis.call('XDEL', DEAD, letter)
end
redis.call('ZREM', PICTURES, id)
redis.call('ZREM', WEBHOOKS, id)
redis.call('ZREM', EXPIRING, id .. ':' .. owner)
redis.call('ZREM', named('owner', owner), id)
-- Followers learn that the job is gone.
notify(id)
return 1
