-- The start of every script. KEYS 1 is the stream of jobs; the names of all other keys begin like it (jobs/keys.py).
-- ARGV 1-3: the consumer group, how long to keep a finished job in ms, largest number of finished jobs with a picture.
local STREAM = KEYS[1]
local GROUP, KEEP, MOST_PICTURES = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local TAG = string.match(STREAM, '^(.-})') .. ':'
local ACTIVE, PICTURES, EXPIRING = TAG .. 'active', TAG .. 'pictures', TAG .. 'expiring'
local COUNTS, NOTIFICATIONS, WEBHOOKS, DEAD = TAG .. 'metrics', TAG .. 'notices', TAG .. 'webhooks', TAG .. 'dead'
-- How many old jobs are cleaned up whenever a job ends: more than one, so that they do not pile up, but few enough to
-- be fast.
local CLEAN_UP = 20

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

-- Notify the followers of the job and, unless it continues, the requests that wait for its end.
local function notify(id, continues)
  redis.call('PUBLISH', NOTIFICATIONS, continues and id .. '+' or id)
end

-- Add an event to the job.
local function announce(id, event, data)
  redis.call('XADD', named('events', id), '*', 'event', event, 'data', data)
end

local function announce_status(id, status, attempt)
  announce(id, status, '{"status":"' .. status .. '","attempt":' .. attempt .. '}')
  notify(id, status == 'queued' or status == 'processing')
end

-- Remove an entry from the stream.
local function remove_entry(entry)
  redis.call('XACK', STREAM, GROUP, entry)
  redis.call('XDEL', STREAM, entry)
end

-- Append an existing job to the queue.
local function enqueue(id)
  local entry = redis.call('XADD', STREAM, '*', 'job', id)
  redis.call('HSET', named('job', id), 'status', 'queued', 'entry', entry)
  redis.call('HDEL', named('job', id), 'leader')
end

-- Create a job. The calling script then queues, answers or ends it. No other function creates jobs.
local function create_job(id, created, lifetime, image, width, height, options, owner, request)
  redis.call('HSET', named('job', id), 'status', 'queued', 'attempt', 0, 'width', width, 'height', height,
    'created', created, 'deadline', created + lifetime, 'options', options, 'owner', owner, 'request', request)
  if image ~= '' then
    -- By then the job has ended or expired; start.lua keeps the picture of a running job.
    redis.call('SET', named('image', id), image, 'PX', 2 * lifetime + KEEP)
  end
  redis.call('ZADD', named('owner', owner), 0, id)
  redis.call('ZADD', ACTIVE, created, id)
  announce_status(id, 'queued', 0)
  count('jobs_submitted')
end

-- Remove up to `most` expired jobs from the lists of jobs, and delete up to `most` surplus pictures.
local function clean_up(time, most)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', EXPIRING, '-inf', time, 'LIMIT', 0, most)) do
    local id, owner = string.match(member, '^(.-):(.*)$')
    redis.call('ZREM', EXPIRING, member)
    redis.call('ZREM', named('owner', owner), id)
  end
  redis.call('ZREMRANGEBYSCORE', PICTURES, '-inf', time - KEEP)
  local surplus = redis.call('ZCARD', PICTURES) - MOST_PICTURES
  if surplus > 0 then
    local oldest = redis.call('ZPOPMIN', PICTURES, math.min(surplus, most))
    for i = 1, #oldest, 2 do
      redis.call('DEL', named('image', oldest[i]))
    end
  end
end

-- Move a job to a terminal state. No other function does. Fields of the record may follow the status.
local function conclude(id, status, ...)
  local record, time = named('job', id), now()
  local entry, attempt, owner, cache, leader, webhook =
    unpack(redis.call('HMGET', record, 'entry', 'attempt', 'owner', 'cache', 'leader', 'webhook'))
  redis.call('HSET', record, 'status', status, 'completed', time, ...)
  announce_status(id, status, attempt)
  count('jobs_finished|status=' .. status)
  redis.call('ZREM', ACTIVE, id)
  if entry then
    remove_entry(entry)
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
  clean_up(time, CLEAN_UP)

  local cached = cache and redis.call('GET', cache) == id
  if cached then
    -- Only successes stay in the cache.
    if status == 'succeeded' then
      redis.call('PEXPIRE', cache, KEEP)
    else
      redis.call('DEL', cache)
    end
  end
  local twins = redis.call('SMEMBERS', named('twins', id))
  redis.call('DEL', named('twins', id))
  if status == 'succeeded' or status == 'failed' then
    -- Twins share the outcome. A picture that kills workers must not do so once for each twin.
    for _, twin in ipairs(twins) do
      conclude(twin, status, 'cached', 1, ...)
    end
  elseif #twins > 0 then
    -- Only the twins still want the result. The oldest of them replaces this job.
    table.sort(twins)
    local successor = table.remove(twins, 1)
    enqueue(successor)
    if cached then
      redis.call('HSET', named('job', successor), 'cache', cache)
      redis.call('SET', cache, successor)
    end
    for _, twin in ipairs(twins) do
      redis.call('HSET', named('job', twin), 'leader', successor)
      redis.call('SADD', named('twins', successor), twin)
    end
  end
end

-- Whether `worker` holds `entry`. If the stream or its group is lost, no worker holds anything.
local function holds(worker, entry)
  local pending = redis.pcall('XPENDING', STREAM, GROUP, entry, entry, 1)[1]
  return pending ~= nil and pending[2] == worker
end
