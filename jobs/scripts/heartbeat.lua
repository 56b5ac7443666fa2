-- Tell that a worker lives, and keep what it holds from being taken over. Not about one job: of the conventions, only
-- the stream and the group hold.
-- KEYS 5: workers. ARGV 5...: worker, ms after which a silent worker is forgotten, then the entries that it holds.
-- Returns those of the entries that are still its own.
local worker = ARGV[5]

redis.call('ZADD', KEYS[5], now(), worker)
redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', now() - ARGV[6])
local kept = {}
for i = 7, #ARGV do
  if holds(worker, ARGV[i]) then
    redis.call('XCLAIM', STREAM, GROUP, worker, 0, ARGV[i], 'JUSTID')
    kept[#kept + 1] = ARGV[i]
  end
end
return kept
