-- Take a job in, or refuse it: the bound holds however many ask at once.
-- ARGV 5...: most jobs at once, image bytes, width, height, lifetime in ms.
-- Returns when the job was taken in, or 0 when full. Asked again for a job that is in, it does nothing: the client
-- library repeats a call whose answer was lost.
local known = redis.call('HGET', RECORD, 'created')
if known then
  return tonumber(known)
end
if redis.call('XLEN', STREAM) >= tonumber(ARGV[5]) then
  return 0
end
local created, lifetime = now(), tonumber(ARGV[9])
local entry = redis.call('XADD', STREAM, '*', 'job', JOB)
-- The record stays until the job is over. The image may go when the job must have begun long ago, or expired.
redis.call('HSET', RECORD, 'status', 'queued', 'attempt', 0, 'entry', entry, 'width', ARGV[7], 'height', ARGV[8],
  'created', created, 'deadline', created + lifetime)
redis.call('SET', IMAGE, ARGV[6], 'PX', 2 * lifetime)
announce('queued')
return created
