-- Cancel a job that is not over. Its worker, if it has one, notices between two words.
-- ARGV 4: job. Returns 1 if this call canceled the job; 0 if there is none or it was over.
local status = redis.call('HGET', named('job', ARGV[4]), 'status')
if status ~= 'queued' and status ~= 'processing' then
  return 0
end
conclude(ARGV[4], 'canceled')
return 1
