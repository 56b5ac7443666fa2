-- Finish a job, once: only the latest attempt may finish it (fencing), and only while the job is processing.
-- ARGV 4...: job, attempt, terminal status, version of the captioner, then fields of the record and their values.
-- Returns 1 if this call, or an earlier one that it repeats, finished the job; 0 if it came too late.
local id, attempt, terminal, version, field, value = unpack(ARGV, 4, 9)

local status, latest, cache, stored = unpack(redis.call('HMGET', named('job', id), 'status', 'attempt', 'cache', field))
if latest ~= attempt then
  return 0
end
if status ~= 'processing' then
  return status == terminal and stored == value and 1 or 0
end
if cache and version ~= '' and not string.find(cache, ':' .. version .. ':', 1, true) then
  -- The result is from another captioner than the one that the cache key names.
  if redis.call('GET', cache) == id then
    redis.call('DEL', cache)
  end
end
conclude(id, terminal, unpack(ARGV, 8))
return 1
