-- Submit a dead letter again as a new job. The dead job itself stays failed.
-- ARGV 4...: the dead job, id of the new job, largest number of active jobs, lifetime in ms.
-- Returns 'sent' (also for a repeated call), 'full', or 'unknown' (no such dead letter, or its picture is gone).
local dead, id, most, lifetime = ARGV[4], ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])

if redis.call('EXISTS', named('job', id)) == 1 then
  return 'sent'
end
local image = redis.call('GET', named('image', dead))
local width, height, options, owner, request, letter =
  unpack(redis.call('HMGET', named('job', dead), 'width', 'height', 'options', 'owner', 'request', 'letter'))
if not letter or not image or #redis.call('XRANGE', DEAD, letter, letter) == 0 then
  return 'unknown'
end
if redis.call('ZCARD', ACTIVE) >= most then
  return 'full'
end
create_job(id, now(), lifetime, image, width, height, options, owner, request)
enqueue(id)
redis.call('XDEL', DEAD, letter)
return 'sent'
