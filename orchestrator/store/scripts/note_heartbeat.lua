-- note_heartbeat: keep an attempt's progress, and move its HEARTBEAT timer.
--
-- KEYS[1]  steps    hash, fields "<step>.<name>"
-- KEYS[2]  timers   zset
-- ARGV[1]  step
-- ARGV[2]  attempt
-- ARGV[3]  member   "<workflow>.<run>.<step>.<attempt>"
-- ARGV[4]  token    the claim's, or what the claim begins with; never ""
-- ARGV[5]  details  JSON
--
-- Returns "granted" | "cancelled" | "refused"
--
-- H6: attempt, state and token must fit.

local step = ARGV[1]
local row = redis.call("HMGET", KEYS[1], step .. ".attempt", step .. ".state", step .. ".claim",
    step .. ".heartbeat_ms")
if row[1] ~= ARGV[2] or (row[2] ~= "claimed" and row[2] ~= "cancelling")
    or ARGV[4] == "" or string.sub(row[3] or "", 1, #ARGV[4]) ~= ARGV[4] then
    return "refused"
end
local time = redis.call("TIME")
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call("HSET", KEYS[1], step .. ".details", ARGV[5],
    step .. ".heartbeat_at_ms", string.format("%d", now_ms))
if tonumber(row[4]) > 0 then
    redis.call("ZADD", KEYS[2], string.format("%d", now_ms + tonumber(row[4])),
        "heartbeat:" .. ARGV[3])
end
if row[2] == "cancelling" then
    return "cancelled"
end
return "granted"
