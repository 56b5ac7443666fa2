-- Remove consumers of the group that hold nothing and have been idle for long.
-- ARGV 4: idle time in ms. Returns the number of removed consumers.
-- The check and the removal are one step, because removing a consumer discards its pending entries.
local removed = 0
for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', STREAM, GROUP)) do
  local consumer = {}
  for i = 1, #fields, 2 do
    consumer[fields[i]] = fields[i + 1]
  end
  if consumer.pending == 0 and consumer.idle > tonumber(ARGV[4]) then
    redis.call('XGROUP', 'DELCONSUMER', STREAM, GROUP, consumer.name)
    removed = removed + 1
  end
end
return removed
