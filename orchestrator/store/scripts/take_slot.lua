-- take_slot: the next instant at which a key's rate lets somebody go.
--
-- KEYS[1]  rate     zset, instant → holder
-- ARGV[1]  holder   "<workflow>.<run>.<permit>"
-- ARGV[2]  limit    slots in any stretch of time
-- ARGV[3]  per_ms   the stretch
-- ARGV[4]  kept_ms  how long a slot is remembered at least
--
-- Returns the instant.
--
-- A slot comes no earlier than the one before it, than now, and than a stretch behind the slot that
-- is `limit` before it.  Whoever has one is told the same again.

local known = redis.call("ZSCORE", KEYS[1], ARGV[1])
if known then
    return string.format("%d", tonumber(known))
end
local time = redis.call("TIME")
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local per_ms = tonumber(ARGV[3])
local kept_ms = math.max(per_ms, tonumber(ARGV[4]))
redis.call("ZREMRANGEBYSCORE", KEYS[1], "-inf", string.format("%d", now_ms - kept_ms))

local at_ms = now_ms
local last = redis.call("ZREVRANGE", KEYS[1], 0, 0, "WITHSCORES")
if last[2] then
    at_ms = math.max(at_ms, tonumber(last[2]))
end
local before = tonumber(ARGV[2]) - 1
local earlier = redis.call("ZREVRANGE", KEYS[1], before, before, "WITHSCORES")
if earlier[2] then
    at_ms = math.max(at_ms, tonumber(earlier[2]) + per_ms)
end
local at = string.format("%d", at_ms)
redis.call("ZADD", KEYS[1], at, ARGV[1])
redis.call("PEXPIREAT", KEYS[1], string.format("%d", at_ms + kept_ms + 1))
return at
