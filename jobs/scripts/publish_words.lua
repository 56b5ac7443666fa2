-- Publish the words that a running attempt has decided.
-- ARGV 4...: job, attempt, number of words that it published before, then the JSON of each new word's event.
-- Returns 1; or 0 if the job is over, or a later attempt has begun.
-- Published words are counted, so that a repeated call, or a batch that runs again in halves, publishes none twice.
local id, attempt, before = ARGV[4], ARGV[5], tonumber(ARGV[6])

local status, latest, published = unpack(redis.call('HMGET', named('job', id), 'status', 'attempt', 'published'))
if status ~= 'processing' or latest ~= attempt then
  return 0
end
published = tonumber(published)
for i = 7, #ARGV do
  if before + i - 6 > published then
    redis.call('XADD', named('events', id), '*', 'event', 'word', 'data', ARGV[i])
    published = before + i - 6
  end
end
redis.call('HSET', named('job', id), 'published', published)
notify(id, true)
return 1
