-- Begin an attempt at a job that this worker has claimed.
-- KEYS 5: dead letters. ARGV 5...: worker, entry, most attempts, the problem of a job that has had them all.
-- Returns {'run', attempt}, or {why not}: 'lost' (another worker has it), 'over' (nothing to do), 'expired', 'dead'.
local worker, entry, most, problem = ARGV[5], ARGV[6], tonumber(ARGV[7]), ARGV[8]

if not holds(worker, entry) then
  return {'lost'}
end
local status, deadline, attempt = unpack(redis.call('HMGET', RECORD, 'status', 'deadline', 'attempt'))
if status ~= 'queued' and status ~= 'processing' then
  drop(entry)
  return {'over'}
end
if status == 'queued' and now() > tonumber(deadline) then
  conclude(entry, 'expired')
  return {'expired'}
end
if tonumber(attempt) >= most then
  conclude(entry, 'failed', 'error', problem)
  redis.call('XADD', KEYS[5], 'MAXLEN', '~', 10000, '*', 'job', JOB, 'error', problem)
  return {'dead'}
end
attempt = redis.call('HINCRBY', RECORD, 'attempt', 1)
redis.call('HSET', RECORD, 'status', 'processing', 'started', now())
announce('processing')
return {'run', attempt}
