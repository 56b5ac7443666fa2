-- Make a new job of a dead letter, whose own end stays what it was.
-- ARGV 4...: the dead job, id of the new one, most jobs at once, lifetime in ms.
-- Returns 'sent', 'full', or 'unknown' when it is no dead letter or its picture is gone.
local dead, id, most, lifetime = ARGV[4], ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])

local letter
for _, entry in ipairs(redis.call('XRANGE', TAG .. 'dead', '-', '+')) do
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'job' and entry[2][i + 1] == dead then
      letter = entry[1]
    end
  end
end
local image = redis.call('GET', named('image', dead))
local width, height, options, owner, request =
  unpack(redis.call('HMGET', named('job', dead), 'width', 'height', 'options', 'owner', 'request'))
if not letter or not image or not width then
  return 'unknown'
end
if redis.call('ZCARD', ACTIVE) >= most then
  return 'full'
end
local created = now()
redis.call('HSET', named('job', id), 'status', 'queued', 'attempt', 0, 'width', width, 'height', height,
  'created', created, 'deadline', created + lifetime, 'options', options, 'owner', owner, 'request', request)
redis.call('SET', named('image', id), image, 'PX', 2 * lifetime + KEEP)
redis.call('ZADD', named('owner', owner), 0, id)
redis.call('ZADD', ACTIVE, created, id)
announce_status(id, 'queued', 0)
count('jobs_submitted')
enqueue(id)
redis.call('XDEL', TAG .. 'dead', letter)
return 'sent'
