-- claim_attempt: take an attempt, if it is current and nobody has it.
--
-- KEYS[1]  steps    hash, fields "<step>.<name>"
-- KEYS[2]  claims   zset
-- KEYS[3]  timers   zset
-- ARGV[1]  step
-- ARGV[2]  attempt
-- ARGV[3]  member   of the claims: "<workflow>.<run>.<step>.<attempt>"
-- ARGV[4]  token
-- ARGV[5]  ttl_ms
--
-- Returns {"granted" | "cancelled", details or ""} | {"refused", ""}
--
-- H6: only a step that is "scheduled", with this very attempt, is claimed.
-- H9: the holder who asks again is told so, and nothing changes.

local step, member = ARGV[1], ARGV[3]
local row = redis.call("HMGET", KEYS[1], step .. ".attempt", step .. ".state", step .. ".claim",
    step .. ".details", step .. ".start_to_close_ms", step .. ".heartbeat_ms")
if row[1] ~= ARGV[2] then
    return {"refused", ""}
end
if row[2] ~= "scheduled" then
    if row[3] == ARGV[4] and row[2] == "claimed" then
        return {"granted", row[4] or ""}
    elseif row[3] == ARGV[4] and row[2] == "cancelling" then
        return {"cancelled", row[4] or ""}
    end
    return {"refused", ""}
end

local time = redis.call("TIME")
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call("HSET", KEYS[1], step .. ".state", "claimed", step .. ".claim", ARGV[4])
redis.call("ZADD", KEYS[2], string.format("%d", now_ms + tonumber(ARGV[5])), member)
redis.call("ZREM", KEYS[3], "unclaimed:" .. member, "schedule_to_start:" .. member)
if tonumber(row[5]) > 0 then
    redis.call("ZADD", KEYS[3], string.format("%d", now_ms + tonumber(row[5])),
        "start_to_close:" .. member)
end
if tonumber(row[6]) > 0 then
    redis.call("ZADD", KEYS[3], string.format("%d", now_ms + tonumber(row[6])),
        "heartbeat:" .. member)
end
return {"granted", row[4] or ""}
