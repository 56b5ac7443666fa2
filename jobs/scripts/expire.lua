-- Let a job expire that no worker has begun in its lifetime, even when there is no worker at all to notice.
-- ARGV 4: job. Returns 1 when the job expired by this call.
local status, deadline = unpack(redis.call('HMGET', named('job', ARGV[4]), 'status', 'deadline'))
if status ~= 'queued' or now() <= tonumber(deadline) then
  return 0
end
conclude(ARGV[4], 'expired')
return 1
