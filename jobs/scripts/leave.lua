-- Sign a worker off. Its entries get an idle time of a day, so that another worker takes them over at once.
-- ARGV 4...: worker, then its entries.
local worker = ARGV[4]

redis.call('ZREM', TAG .. 'workers', worker)
for i = 5, #ARGV do
  if holds(worker, ARGV[i]) then
    redis.call('XCLAIM', STREAM, GROUP, worker, 0, ARGV[i], 'IDLE', 86400000, 'JUSTID')
  end
end
return 1
