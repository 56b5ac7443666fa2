-- End a job, once: the first to come wins, and an attempt that another one has followed comes too late.
-- ARGV 5...: entry, attempt, terminal status, 'result' or 'error', its JSON.
-- Returns 1 when the job is over by this call (or was by this very call, asked again), 0 when it came too late.
local entry, attempt, terminal = ARGV[5], ARGV[6], ARGV[7]

local status, latest = unpack(redis.call('HMGET', RECORD, 'status', 'attempt'))
if latest ~= attempt then
  return 0
end
if status ~= 'processing' then
  return status == terminal and 1 or 0
end
conclude(entry, terminal, ARGV[8], ARGV[9])
return 1
