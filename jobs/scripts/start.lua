-- Begin an attempt at a job that this worker has claimed.
-- ARGV 4...: job, worker, entry, most attempts, the problem of a job that has had them all, how long to keep that one
-- in ms.
-- Returns {'run', attempt}, or {why not}: 'lost' (another worker has it), 'over' (nothing to do), 'expired', 'dead'.
local id, worker, entry, most, problem = ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7]), ARGV[8]
local record = named('job', id)

if not holds(worker, entry) then
  return {'lost'}
end
local status, deadline, attempt, latest = unpack(redis.call('HMGET', record, 'status', 'deadline', 'attempt', 'entry'))
if (status ~= 'queued' and status ~= 'processing') or latest ~= entry then
  drop(entry)
  return {'over'}
end
if status == 'queued' and now() > tonumber(deadline) then
  conclude(id, 'expired')
  return {'expired'}
end
if tonumber(attempt) >= most then
  conclude(id, 'failed', 'error', problem)
  -- Kept longer, with its picture: somebody will want to look at it, and may send it back.
  redis.call('XADD', TAG .. 'dead', 'MAXLEN', '~', 1000, '*', 'job', id, 'error', problem)
  redis.call('PEXPIRE', record, ARGV[9])
  redis.call('PEXPIRE', named('image', id), ARGV[9])
  redis.call('ZREM', PICTURES, id)
  count('jobs_dead')
  return {'dead'}
end
attempt = redis.call('HINCRBY', record, 'attempt', 1)
redis.call('HSET', record, 'status', 'processing', 'started', now(), 'told', 0)
-- While it is worked on, what it needs does not expire, however long it had to wait.
redis.call('PERSIST', named('image', id))
announce_status(id, 'processing', attempt)
if attempt > 1 then
  count('jobs_reclaimed')
end
return {'run', attempt}
