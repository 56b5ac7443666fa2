-- Note that somebody follows a job: a worker that searches for its caption tells words early only then.
-- ARGV 4: job. Returns 1, or 0 when there is none or it is over.
local status = redis.call('HGET', named('job', ARGV[4]), 'status')
if status ~= 'queued' and status ~= 'processing' then
  return 0
end
redis.call('HSET', named('job', ARGV[4]), 'followed', 1)
return 1
