-- Take webhook deliveries that are due, so that nobody else takes them before the lease is over: the time at which each
-- is due moves there. Whoever dies meanwhile loses nothing, for then it is due again.
-- ARGV 4...: most to take, lease in ms. Returns the ids of the jobs, the longest due first.
local time = now()
local due = redis.call('ZRANGEBYSCORE', WEBHOOKS, '-inf', time, 'LIMIT', 0, tonumber(ARGV[4]))
for _, id in ipairs(due) do
  redis.call('ZADD', WEBHOOKS, time + tonumber(ARGV[5]), id)
end
return due
