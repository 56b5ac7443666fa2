-- Goes before every other script here. KEYS 1 is the jobs stream; all other keys are named after it (jobs/keys.py) and
-- lie with it on one node of a cluster. ARGV 1-3: the consumer group, how long to keep a finished job in ms, and how
-- many finished jobs' pictures to keep at most.
local STREAM = KEYS[1]
local GROUP, KEEP, MOST_PICTURES = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local TAG = string.match(STREAM, '^(.-})') .. ':'
local ACTIVE, PICTURES, EXPIRING = TAG .. 'active', TAG .. 'pictures', TAG .. 'expiring'
local COUNTS, NOTICES, WEBHOOKS, DEAD = TAG .. 'metrics', TAG .. 'notices', TAG .. 'webhooks', TAG .. 'dead'
-- How many jobs that have long been over are forgotten whenever another ends: more than can come, few enough to take
-- no time.
local FORGET = 20

local function named(kind, id)
  return TAG .. kind .. ':' .. id
end

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function count(what)
  redis.call('HINCRBY', COUNTS, what, 1)
end

-- Wake whoever follows the job and, unless it goes on, whoever waits for its end.
local function wake(id, goes_on)
  redis.call('PUBLISH', NOTICES, goes_on and id .. '+' or id)
end

-- Write down what happened to the job.
local function announce(id, event, data)
  redis.call('XADD', named('events', id), '*', 'event', event, 'data', data)
end

local function announce_status(id, status, attempt)
  announce(id, status, '{"status":"' .. status .. '","attempt":' .. attempt .. '}')
  wake(id, status == 'queued' or status == 'processing')
end

-- The entry needs no more work.
local function drop(entry)
  redis.call('XACK', STREAM, GROUP, entry)
  redis.call('XDEL', STREAM, entry)
end

-- Put the job, whose record exists, at the end of the queue.
local function enqueue(id)
  local entry = redis.call('XADD', STREAM, '*', 'job', id)
  redis.call('HSET', named('job', id), 'status', 'queued', 'entry', entry)
  redis.call('HDEL', named('job', id), 'leader')
end

-- The one way in: write down a job, which is to be queued, answered or ended in the same script.
local function take_in(id, created, lifetime, image, width, height, options, owner, request)
  redis.call('HSET', named('job', id), 'status', 'queued', 'attempt', 0, 'width', width, 'height', height,
    'created', created, 'deadline', created + lifetime, 'options', options, 'owner', owner, 'request', request)
  if image ~= '' then
    -- The image may go when the job must have begun long ago, or expired.
    redis.call('SET', named('image', id), image, 'PX', 2 * lifetime + KEEP)
  end
  redis.call('ZADD', named('owner', owner), 0, id)
  redis.call('ZADD', ACTIVE, created, id)
  announce_status(id, 'queued', 0)
  count('jobs_submitted')
end

-- Up to `most` jobs and pictures that are kept no longer leave the lists that name them.
local function forget(time, most)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', EXPIRING, '-inf', time, 'LIMIT', 0, most)) do
    local id, owner = string.match(member, '^(.-):(.*)$')
    redis.call('ZREM', EXPIRING, member)
    redis.call('ZREM', named('owner', owner), id)
  end
  redis.call('ZREMRANGEBYSCORE', PICTURES, '-inf', time - KEEP)
  local many = redis.call('ZCARD', PICTURES) - MOST_PICTURES
  if many > 0 then
    local oldest = redis.call('ZPOPMIN', PICTURES, math.min(many, most))
    for i = 1, #oldest, 2 do
      redis.call('DEL', named('image', oldest[i]))
    end
  end
end

-- The one way to a terminal state; more fields of the record may follow the status.
local function conclude(id, status, ...)
  local record, time = named('job', id), now()
  local entry, attempt, owner, cache, leader, webhook =
    unpack(redis.call('HMGET', record, 'entry', 'attempt', 'owner', 'cache', 'leader', 'webhook'))
  redis.call('HSET', record, 'status', status, 'completed', time, ...)
  announce_status(id, status, attempt)
  count('jobs_finished|status=' .. status)
  redis.call('ZREM', ACTIVE, id)
  if entry then
    drop(entry)
  end
  if leader then
    redis.call('SREM', named('twins', leader), id)
  end
  if webhook then
    redis.call('ZADD', WEBHOOKS, time, id)
  end
  redis.call('PEXPIRE', record, KEEP)
  redis.call('PEXPIRE', named('events', id), KEEP)
  redis.call('PEXPIRE', named('image', id), KEEP)
  redis.call('ZADD', PICTURES, time, id)
  redis.call('ZADD', EXPIRING, time + KEEP, id .. ':' .. (owner or ''))
  forget(time, FORGET)

  local known = cache and redis.call('GET', cache) == id
  if known then
    -- Only successes are remembered.
    if status == 'succeeded' then
      redis.call('PEXPIRE', cache, KEEP)
    else
      redis.call('DEL', cache)
    end
  end
  local twins = redis.call('SMEMBERS', named('twins', id))
  redis.call('DEL', named('twins', id))
  if status == 'succeeded' or status == 'failed' then
    -- They asked for the same, and share what came of it: a picture that kills workers must not do so once for each.
    for _, twin in ipairs(twins) do
      conclude(twin, status, 'cached', 1, ...)
    end
  elseif #twins > 0 then
    -- Nobody wants this one's result but its twins: the eldest takes its place.
    table.sort(twins)
    local heir = table.remove(twins, 1)
    enqueue(heir)
    if known then
      redis.call('HSET', named('job', heir), 'cache', cache)
      redis.call('SET', cache, heir)
    end
    for _, twin in ipairs(twins) do
      redis.call('HSET', named('job', twin), 'leader', heir)
      redis.call('SADD', named('twins', heir), twin)
    end
  end
end

-- Whether `worker` holds `entry`. Where the stream or its group was lost, nobody holds anything.
local function holds(worker, entry)
  local pending = redis.pcall('XPENDING', STREAM, GROUP, entry, entry, 1)[1]
  return pending ~= nil and pending[2] == worker
end
