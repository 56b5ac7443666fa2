-- Begin an attempt at a job that this worker has claimed.
-- ARGV 4...: job, worker, entry, attempts begun when it was claimed, largest number of attempts, problem of a job that
-- has used them all, how long to keep such a job in ms.
-- Returns {'run', attempt}, {'lost'} (another worker has it), {'over'}, {'expired'} or {'dead'}.
-- A repeated call begins no further attempt, because a lost answer must not cost one.
local id, worker, entry, before, most, problem = ARGV[4], ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[8]), ARGV[9]
local record = named('job', id)

if not holds(worker, entry) then
  return {'lost'}
end
local status, deadline, attempt, current_entry, started_by, claimed =
  unpack(redis.call('HMGET', record, 'status', 'deadline', 'attempt', 'entry', 'worker', 'claimed'))
if (status ~= 'queued' and status ~= 'processing') or current_entry ~= entry then
  remove_entry(entry)
  return {'over'}
end
if status == 'queued' and now() > tonumber(deadline) then
  conclude(id, 'expired')
  return {'expired'}
end
if status == 'processing' and started_by == worker and claimed == before then
  return {'run', tonumber(attempt)}
end
if tonumber(attempt) >= most then
  local image = redis.call('GET', named('image', id))
  conclude(id, 'failed', 'error', problem)
  -- A dead letter is kept longer, with its picture, so that an operator can inspect and retry it.
  local letter = redis.call('XADD', DEAD, 'MAXLEN', '~', 1000, '*', 'job', id, 'error', problem)
  redis.call('HSET', record, 'letter', letter)
  redis.call('PEXPIRE', record, ARGV[10])
  redis.call('ZREM', PICTURES, id)
  if image then
    redis.call('SET', named('image', id), image, 'PX', ARGV[10])
  end
  count('jobs_dead')
  return {'dead'}
end
attempt = redis.call('HINCRBY', record, 'attempt', 1)
redis.call('HSET', record, 'status', 'processing', 'started', now(), 'published', 0, 'worker', worker,
  'claimed', before)
-- The picture does not expire while the job runs, however long the job has waited.
redis.call('PERSIST', named('image', id))
announce_status(id, 'processing', attempt)
if attempt > 1 then
  count('jobs_reclaimed')
end
return {'run', attempt}
