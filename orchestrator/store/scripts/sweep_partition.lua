-- sweep_partition: what is due now.  Writes nothing.
--
-- KEYS[1]  timers   zset
-- KEYS[2]  claims   zset
-- ARGV[1]  count    at most so many of each
--
-- Returns {now_ms, {due timers}, {expired claims}, due_ms of the next timer or ""}

local time = redis.call("TIME")
local now_ms = string.format("%d", tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
local timers = redis.call("ZRANGEBYSCORE", KEYS[1], "-inf", now_ms, "LIMIT", "0", ARGV[1])
local claims = redis.call("ZRANGEBYSCORE", KEYS[2], "-inf", now_ms, "LIMIT", "0", ARGV[1])
local later = redis.call("ZRANGEBYSCORE", KEYS[1], "(" .. now_ms, "+inf", "WITHSCORES",
    "LIMIT", "0", "1")
return {now_ms, timers, claims, later[2] or ""}
