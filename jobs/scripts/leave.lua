-- A worker goes. What it still holds is made to look so long neglected that the next worker takes it over at once.
-- KEYS 5: workers. ARGV 5...: worker, then the entries that it holds.
local worker = ARGV[5]

redis.call('ZREM', KEYS[5], worker)
for i = 6, #ARGV do
  if holds(worker, ARGV[i]) then
    redis.call('XCLAIM', STREAM, GROUP, worker, 0, ARGV[i], 'IDLE', 86400000, 'JUSTID')
  end
end
return 1
