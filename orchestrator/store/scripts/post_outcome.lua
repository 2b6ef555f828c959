-- post_outcome: put an attempt's outcome into the inbox and release its claim.
--
-- KEYS[1]  steps    hash, fields "<step>.<name>", and "open" from the first step to the run's end
-- KEYS[2]  claims   zset
-- KEYS[3]  timers   zset
-- KEYS[4]  inbox    stream
-- ARGV[1]  step
-- ARGV[2]  attempt
-- ARGV[3]  member     of the claims
-- ARGV[4]  token      the claim's, or what it begins with; "" for an attempt nobody has claimed
-- ARGV[5]  workflow   id
-- ARGV[6]  run        number
-- ARGV[7]  body       JSON of the OUTCOME entry
-- ARGV[8]  late_body  JSON of the LATE_OUTCOME entry
-- ARGV[9]  digest     of what is said and by whom; "" from those who say one thing alone
--
-- Returns "posted" | "repeated" | "superseded" | "gone"
--
-- H6: attempt, state and token must fit, or the outcome is refused, and recorded as late.
-- H9: the row remembers the last attempt that posted, and the last that was late.  What a digest
--     came with is known by it until the run ends, "<step>.said.<attempt>": another outcome under
--     the same token is no repetition.

local step, attempt, member, token, digest = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[9]
local row = redis.call("HMGET", KEYS[1], step .. ".attempt", step .. ".state", step .. ".claim",
    step .. ".posted_attempt", step .. ".posted_by", step .. ".late_attempt", "open",
    step .. ".external", step .. ".said." .. attempt)
local said = digest ~= "" and row[9]
if said == digest then
    return "repeated"
end
if not row[1] then
    -- Settled, perhaps by another attempt.  A body that ran under a claim of its own ("<worker>/…")
    -- is told of in the history, as long as the run is open.
    if string.find(token, "/", 1, true) and row[7] then
        redis.call("XADD", KEYS[4], "*", "kind", "late_outcome", "workflow", ARGV[5],
            "run", ARGV[6], "body", ARGV[8])
        return "superseded"
    end
    return "gone"
end

-- An empty token is what every claim begins with: it fits only where there is no claim.
local function fits(claim)
    if token == "" then
        return claim == ""
    end
    return string.sub(claim, 1, #token) == token
end

if row[4] == attempt and fits(row[5] or "") and not said then
    return "repeated"
end

-- A detached claim is no longer its worker's, who would call it lost when the process dies.
if row[8] and row[1] == attempt and token ~= "" and token ~= row[3] and fits(row[3] or "") then
    return "superseded"
end

local may_post = false
if row[1] == attempt then
    if row[2] == "scheduled" then
        may_post = token == ""
    elseif row[2] == "claimed" or row[2] == "cancelling" then
        may_post = token ~= "" and fits(row[3])
    end
end
if not may_post then
    -- A copy that never ran (token "") has nothing to tell that history lacks.
    if token ~= "" and row[6] ~= attempt then
        redis.call("HSET", KEYS[1], step .. ".late_attempt", attempt)
        redis.call("XADD", KEYS[4], "*", "kind", "late_outcome", "workflow", ARGV[5],
            "run", ARGV[6], "body", ARGV[8])
    end
    return "superseded"
end

redis.call("XADD", KEYS[4], "*", "kind", "outcome", "workflow", ARGV[5], "run", ARGV[6],
    "body", ARGV[7])
redis.call("HSET", KEYS[1], step .. ".state", "posted",
    step .. ".posted_attempt", attempt, step .. ".posted_by", row[3] or "")
if digest ~= "" then
    redis.call("HSET", KEYS[1], step .. ".said." .. attempt, digest)
end
redis.call("ZREM", KEYS[2], member)
redis.call("ZREM", KEYS[3], "start_to_close:" .. member, "heartbeat:" .. member,
    "unclaimed:" .. member, "schedule_to_start:" .. member)
return "posted"
