-- report_orchestrator: note that an orchestrator lives, and forget those that no longer report.
--
-- KEYS[1]  orchestrators   zset, expiry ms by owner id
-- ARGV[1]  owner
-- ARGV[2]  ttl_ms
--
-- Returns the owner ids that live

local time = redis.call("TIME")
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call("ZADD", KEYS[1], string.format("%d", now_ms + tonumber(ARGV[2])), ARGV[1])
redis.call("ZREMRANGEBYSCORE", KEYS[1], "-inf", string.format("%d", now_ms))
return redis.call("ZRANGE", KEYS[1], "0", "-1")
