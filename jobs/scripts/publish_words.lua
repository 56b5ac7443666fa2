-- Tell what words a running attempt has decided.
-- ARGV 4...: job, attempt, how many words it has told before, then the JSON of each further word's event.
-- Returns 1, or 0 when nobody wants them any more: the job is over, or another attempt has followed.
-- Words are counted, so that none is told twice when a call is repeated, or when a batch is done again in halves.
local id, attempt, before = ARGV[4], ARGV[5], tonumber(ARGV[6])

local status, latest, told = unpack(redis.call('HMGET', named('job', id), 'status', 'attempt', 'told'))
if status ~= 'processing' or latest ~= attempt then
  return 0
end
told = tonumber(told)
for i = 7, #ARGV do
  if before + i - 6 > told then
    redis.call('XADD', named('events', id), '*', 'event', 'word', 'data', ARGV[i])
    told = before + i - 6
  end
end
redis.call('HSET', named('job', id), 'told', told)
wake(id, true)
return 1
