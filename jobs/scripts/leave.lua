-- A worker goes. What it still holds is made to look so long neglected that the next worker takes it over at once.
-- ARGV 4...: worker, then the entries that it holds.
local worker = ARGV[4]

redis.call('ZREM', TAG .. 'workers', worker)
for i = 5, #ARGV do
  if holds(worker, ARGV[i]) then
    redis.call('XCLAIM', STREAM, GROUP, worker, 0, ARGV[i], 'IDLE', 86400000, 'JUSTID')
  end
end
return 1
