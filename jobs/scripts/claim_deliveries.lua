-- Take webhook deliveries that are due, so that nobody else takes them before the lease is over: the time at which each
-- is due moves there. Whoever dies meanwhile loses nothing, for then it is due again. Goes without prelude.lua.
-- KEYS 1: webhooks. ARGV: most to take, lease in ms. Returns the ids of the jobs, the longest due first.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, tonumber(ARGV[1]))
for _, id in ipairs(due) do
  redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), id)
end
return due
