-- Claim webhook deliveries that are due. Each is due again when its lease ends, so that a web process that dies
-- meanwhile loses nothing.
-- ARGV 4...: largest number of deliveries, lease in ms. Returns the ids of the jobs; the one that has been due longest comes first.
local time = now()
local due = redis.call('ZRANGEBYSCORE', WEBHOOKS, '-inf', time, 'LIMIT', 0, tonumber(ARGV[4]))
for _, id in ipairs(due) do
  redis.call('ZADD', WEBHOOKS, time + tonumber(ARGV[5]), id)
end
return due
