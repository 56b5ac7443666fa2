-- Look whether jobs that are not over are still on their way, and help those that are not: whose entry was lost with
-- the stream, whose twin is gone, or whose time is up while no worker and no client has looked.
-- When no job ends for long, this is what forgets those that ended before.
-- ARGV 4...: a cursor ('0' at first), how many jobs to look at. Returns {the next cursor, how many were put back}.
local cursor, jobs = unpack(redis.call('ZSCAN', ACTIVE, ARGV[4], 'COUNT', ARGV[5]))
local back = 0
forget(now(), 1000)
for i = 1, #jobs, 2 do
  local id = jobs[i]
  local status, entry, leader, deadline =
    unpack(redis.call('HMGET', named('job', id), 'status', 'entry', 'leader', 'deadline'))
  if status ~= 'queued' and status ~= 'processing' then
    redis.call('ZREM', ACTIVE, id)
  elseif status == 'queued' and now() > tonumber(deadline) then
    conclude(id, 'expired')
  elseif leader then
    local awaited = redis.call('HGET', named('job', leader), 'status')
    if redis.call('SISMEMBER', named('twins', leader), id) == 0 or not (awaited == 'queued' or awaited == 'processing') then
      enqueue(id)
      back = back + 1
    end
  elseif not entry or #redis.call('XRANGE', STREAM, entry, entry) == 0 then
    enqueue(id)
    back = back + 1
  end
end
return {cursor, back}
