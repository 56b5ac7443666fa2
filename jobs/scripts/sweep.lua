-- Remove the names of workers that hold nothing and have not been heard of for long.
-- ARGV 4: ms of silence. Returns how many were removed.
-- Checked and removed in one step: removing a consumer drops whatever it holds.
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
