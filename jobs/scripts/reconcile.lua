-- Check some jobs that are not over. Requeue those whose stream entry was lost or whose leader is gone; expire those
-- whose deadline has passed unnoticed. Also clean up after jobs that ended long ago, in case no job ends for a while.
-- ARGV 4...: a cursor ('0' at first), number of jobs to check. Returns {next cursor, number of requeued jobs}.
local cursor, jobs = unpack(redis.call('ZSCAN', ACTIVE, ARGV[4], 'COUNT', ARGV[5]))
local requeued = 0
clean_up(now(), 1000)
for i = 1, #jobs, 2 do
  local id = jobs[i]
  local status, entry, leader, deadline =
    unpack(redis.call('HMGET', named('job', id), 'status', 'entry', 'leader', 'deadline'))
  if status ~= 'queued' and status ~= 'processing' then
    redis.call('ZREM', ACTIVE, id)
  elseif status == 'queued' and now() > tonumber(deadline) then
    conclude(id, 'expired')
  elseif leader then
    local leader_status = redis.call('HGET', named('job', leader), 'status')
    local active = leader_status == 'queued' or leader_status == 'processing'
    if not active or redis.call('SISMEMBER', named('twins', leader), id) == 0 then
      enqueue(id)
      requeued = requeued + 1
    end
  elseif not entry or #redis.call('XRANGE', STREAM, entry, entry) == 0 then
    enqueue(id)
    requeued = requeued + 1
  end
end
return {cursor, requeued}
