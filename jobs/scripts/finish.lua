-- End a job, once: the first to come wins, and an attempt that another one has followed comes too late.
-- ARGV 4...: job, attempt, terminal status, version of the captioner, then fields of the record and their values.
-- Returns 1 when the job is over by this call (or was by this very call, asked again), 0 when it came too late.
local id, attempt, terminal, version, field, value = unpack(ARGV, 4, 9)

local status, latest, cache, stored = unpack(redis.call('HMGET', named('job', id), 'status', 'attempt', 'cache', field))
if latest ~= attempt then
  return 0
end
if status ~= 'processing' then
  return status == terminal and stored == value and 1 or 0
end
if cache and version ~= '' and not string.find(cache, ':' .. version .. ':', 1, true) then
  -- Another captioner's answer than was expected when the job came.
  if redis.call('GET', cache) == id then
    redis.call('DEL', cache)
  end
end
conclude(id, terminal, unpack(ARGV, 8))
return 1
