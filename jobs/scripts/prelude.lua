-- Goes before every other script here. Conventions: KEYS 1-4 are the jobs stream and the job's record, image and
-- events; ARGV 1-4 are the job id, the consumer group, how long to keep a finished job in ms, and the notices channel.
local STREAM, RECORD, IMAGE, EVENTS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local JOB, GROUP, KEEP, NOTICES = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Write down what happened to the job, and wake whoever waits for it.
local function announce(status)
  redis.call('XADD', EVENTS, '*', 'status', status)
  redis.call('PUBLISH', NOTICES, JOB)
end

-- The job needs no more work.
local function drop(entry)
  redis.call('XACK', STREAM, GROUP, entry)
  redis.call('XDEL', STREAM, entry)
end

-- The one way to a terminal state; more fields of the record may follow the status.
local function conclude(entry, status, ...)
  redis.call('HSET', RECORD, 'status', status, 'completed', now(), ...)
  announce(status)
  redis.call('PEXPIRE', RECORD, KEEP)
  redis.call('PEXPIRE', EVENTS, KEEP)
  redis.call('DEL', IMAGE)
  drop(entry)
end

-- Whether `worker` holds `entry`.
local function holds(worker, entry)
  local pending = redis.call('XPENDING', STREAM, GROUP, entry, entry, 1)[1]
  return pending ~= nil and pending[2] == worker
end
