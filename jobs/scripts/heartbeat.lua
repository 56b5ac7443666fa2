-- Tell that a worker lives and which captioner it has, and keep what it holds from being taken over.
-- ARGV 4...: worker, ms after which a silent worker is forgotten, version of its captioner or '', then the entries that
-- it holds.
-- Returns those of the entries that are still its own.
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
