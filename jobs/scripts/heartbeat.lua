-- Report that a worker is alive and which captioner it runs, and keep its entries from being taken over.
-- ARGV 4...: worker, ms after which a silent worker is removed, version of its captioner or '', then its entries.
-- Returns the entries that the worker still holds.
local worker, silence, version = ARGV[4], tonumber(ARGV[5]), ARGV[6]

redis.call('ZADD', TAG .. 'workers', now(), worker)
redis.call('ZREMRANGEBYSCORE', TAG .. 'workers', '-inf', now() - silence)
if version ~= '' then
  redis.call('SET', TAG .. 'model', version)
end
local kept = {}
for i = 7, #ARGV do
  if holds(worker, ARGV[i]) then
    redis.call('XCLAIM', STREAM, GROUP, worker, 0, ARGV[i], 'JUSTID')
    kept[#kept + 1] = ARGV[i]
  end
end
return kept
