-- renew_claim: extend a claim that is still held.
--
-- KEYS[1]  steps    hash, fields "<step>.<name>"
-- KEYS[2]  claims   zset
-- ARGV[1]  step
-- ARGV[2]  attempt
-- ARGV[3]  member   of the claims
-- ARGV[4]  token    the claim's, or what the claim begins with; never ""
-- ARGV[5]  ttl_ms
--
-- Returns "granted" | "cancelled" | "refused"
--
-- H6: attempt, state and token must fit.  Giving a claim up changes the state; one that has merely
--     expired is still held.

local step = ARGV[1]
local row = redis.call("HMGET", KEYS[1], step .. ".attempt", step .. ".state", step .. ".claim",
    step .. ".external")
if row[1] ~= ARGV[2] or (row[2] ~= "claimed" and row[2] ~= "cancelling")
    or ARGV[4] == "" or string.sub(row[3] or "", 1, #ARGV[4]) ~= ARGV[4] then
    return "refused"
end
-- A renewal that was under way when the claim was detached must not let it expire again.
if not row[4] then
    local time = redis.call("TIME")
    local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
    redis.call("ZADD", KEYS[2], string.format("%d", now_ms + tonumber(ARGV[5])), ARGV[3])
end
if row[2] == "cancelling" then
    return "cancelled"
end
return "granted"
