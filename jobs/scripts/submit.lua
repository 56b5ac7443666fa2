-- Accept all jobs of one request, or none of them. The limit holds for concurrent requests too.
-- ARGV 4...: largest number of active jobs, lifetime in ms, owner, request id, webhook, options, batch id,
--   key of the Idempotency-Key, fingerprint of the request, then for each job: id, file name, image, width, height,
--   fingerprint for the cache, problem. A missing value is ''. A job with a problem fails at once.
-- Returns {'taken'}, {'same', id of the job or batch that the same request created before}, {'other'} (the
-- Idempotency-Key belongs to another request), or {'full'}.
-- A repeated call does nothing: the client library repeats a call whose answer was lost.
local most, lifetime, owner, request = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6], ARGV[7]
local webhook, options, batch, idempotency, fingerprint = ARGV[8], ARGV[9], ARGV[10], ARGV[11], ARGV[12]
local FIRST, FIELDS = 13, 7

if redis.call('EXISTS', named('job', ARGV[FIRST])) == 1 then
  return {'taken'}
end
if idempotency ~= '' then
  local earlier_fingerprint, earlier = unpack(redis.call('HMGET', idempotency, 'fingerprint', 'made'))
  if earlier and redis.call('EXISTS', named('job', earlier), named('batch', earlier)) > 0 then
    if earlier_fingerprint ~= fingerprint then
      return {'other'}
    end
    return {'same', earlier}
  end
end

-- Return the cache key for a fingerprint, and the job that has the answer ('answered') or will have it ('awaited').
local version = redis.call('GET', TAG .. 'model')
local function find_answer(digest)
  if digest == '' or not version then
    return nil
  end
  local cache = TAG .. 'cache:' .. version .. ':' .. digest
  local id = redis.call('GET', cache)
  local status = id and redis.call('HGET', named('job', id), 'status')
  if status == 'succeeded' then
    return cache, id, 'answered'
  elseif status == 'queued' or status == 'processing' then
    return cache, id, 'awaited'
  end
  return cache, nil, nil
end

local new_jobs = 0
for at = FIRST, #ARGV, FIELDS do
  local _, _, state = find_answer(ARGV[at + 5])
  if ARGV[at + 6] == '' and state ~= 'answered' then
    new_jobs = new_jobs + 1
  end
end
if redis.call('ZCARD', ACTIVE) + new_jobs > most then
  return {'full'}
end

local created = now()
local ids = {}
for at = FIRST, #ARGV, FIELDS do
  local id, name, image, width, height, digest, problem = unpack(ARGV, at, at + FIELDS - 1)
  local record = named('job', id)
  ids[#ids + 1] = id
  create_job(id, created, lifetime, image, width, height, options, owner, request)
  for field, value in pairs({name = name, webhook = webhook, batch = batch}) do
    if value ~= '' then
      redis.call('HSET', record, field, value)
    end
  end
  local cache, other, state = find_answer(digest)
  if problem ~= '' then
    conclude(id, 'failed', 'error', problem)
  elseif state == 'answered' then
    local result, text = unpack(redis.call('HMGET', named('job', other), 'result', 'text'))
    count('jobs_cached')
    conclude(id, 'succeeded', 'result', result, 'text', text, 'cached', 1)
  elseif state == 'awaited' then
    count('jobs_cached')
    redis.call('HSET', record, 'leader', other)
    redis.call('SADD', named('twins', other), id)
  else
    enqueue(id)
    if cache then
      redis.call('HSET', record, 'cache', cache)
      redis.call('SET', cache, id)
    end
  end
end

local kept_for = 2 * lifetime + KEEP
if batch ~= '' then
  redis.call('HSET', named('batch', batch), 'owner', owner, 'created', created, 'jobs', table.concat(ids, ' '))
  redis.call('PEXPIRE', named('batch', batch), kept_for)
end
if idempotency ~= '' then
  redis.call('HSET', idempotency, 'fingerprint', fingerprint, 'made', batch ~= '' and batch or ids[1])
  redis.call('PEXPIRE', idempotency, kept_for)
end
return {'taken'}
