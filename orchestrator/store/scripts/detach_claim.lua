-- detach_claim: let a claim outlive its worker.
--
-- KEYS[1]  steps    hash, fields "<step>.<name>"
-- KEYS[2]  claims   zset
-- ARGV[1]  step
-- ARGV[2]  attempt
-- ARGV[3]  member   of the claims
-- ARGV[4]  token    the whole claim's
--
-- Returns "granted" | "cancelled" | "refused"
--
-- H6: attempt, state and token must fit.
-- H7: what is not among the claims does not expire, so nobody gives it up as lost.
-- H9: once more changes nothing, and is answered alike.

local step = ARGV[1]
local row = redis.call("HMGET", KEYS[1], step .. ".attempt", step .. ".state", step .. ".claim")
if row[1] ~= ARGV[2] or (row[2] ~= "claimed" and row[2] ~= "cancelling")
    or ARGV[4] == "" or row[3] ~= ARGV[4] then
    return "refused"
end
redis.call("HSET", KEYS[1], step .. ".external", "1")
redis.call("ZREM", KEYS[2], ARGV[3])
if row[2] == "cancelling" then
    return "cancelled"
end
return "granted"
