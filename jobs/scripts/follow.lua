-- Note that a client follows a job. Only for such jobs does a worker compute, during beam search, which words are decided.
-- ARGV 4: job. Returns 1, or 0 if there is none or it is over.
local status = redis.call('HGET', named('job', ARGV[4]), 'status')
if status ~= 'queued' and status ~= 'processing' then
  return 0
end
redis.call('HSET', named('job', ARGV[4]), 'followed', 1)
return 1
