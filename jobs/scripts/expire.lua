-- Expire a job that no worker has begun before its deadline. Clients call this too, as there may be no worker.
-- ARGV 4: job. Returns 1 if this call expired the job, otherwise 0.
local status, deadline = unpack(redis.call('HMGET', named('job', ARGV[4]), 'status', 'deadline'))
if status ~= 'queued' or now() <= tonumber(deadline) then
  return 0
end
conclude(ARGV[4], 'expired')
return 1
