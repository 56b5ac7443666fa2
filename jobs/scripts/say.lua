-- Tell what words a running attempt has decided.
-- ARGV 4...: job, attempt, then the JSON of each word's event.
-- Returns 1, or 0 when nobody wants them any more: the job is over, or another attempt has followed.
local id = ARGV[4]

local status, latest = unpack(redis.call('HMGET', named('job', id), 'status', 'attempt'))
if status ~= 'processing' or latest ~= ARGV[5] then
  return 0
end
for i = 6, #ARGV do
  redis.call('XADD', named('events', id), '*', 'event', 'word', 'data', ARGV[i])
end
redis.call('PUBLISH', NOTICES, id)
return 1
