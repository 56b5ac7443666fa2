-- Let a job expire that no worker has begun in its lifetime, even when there is no worker at all to notice.
-- Returns 1 when the job expired by this call.
local status, deadline, entry = unpack(redis.call('HMGET', RECORD, 'status', 'deadline', 'entry'))
if status ~= 'queued' or now() <= tonumber(deadline) then
  return 0
end
conclude(entry, 'expired')
return 1
