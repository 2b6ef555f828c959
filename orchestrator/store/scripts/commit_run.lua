-- commit_run: one atomic change to one run, by the owner of its partition.
--
-- KEYS[1]  lease     string "<owner>/<token>"
-- KEYS[2]  row       hash, the workflow id's latest run
-- KEYS[3]  log       stream, entry id "<seq>-0", fields event and head
-- KEYS[4]  inbox     stream
-- KEYS[5]  steps     hash, fields "<step>.<name>", and "open"
-- KEYS[6]  timers    zset
-- KEYS[7]  claims    zset
-- KEYS[8]  open      zset
-- KEYS[9]  closed    zset
-- KEYS[10] blocked   set
-- KEYS[11] outbox    stream, fields queue and body
-- KEYS[12] letters   stream, fields kind, workflow, run, request and body
-- KEYS[13] index     what the names of the partition's indexes begin with
-- KEYS[14] past      what the names of the id's earlier runs' rows begin with
-- KEYS[15 ..]        broker queues, lists; only where the broker is this very database
--
-- ARGV[1]  token            of the lease
-- ARGV[2]  workflow         id
-- ARGV[3]  run              number
-- ARGV[4]  expected_seq     last event the owner has seen; 0 for none
-- ARGV[5]  expected_head    the chain's head after it; "" for none
-- ARGV[6]  blocked          "1" mark, "0" unmark, "" leave
-- ARGV[7]  closed_at_ms     "" while the run goes on
-- ARGV[8]  claim_ttl_ms     of steps the owner claims itself
-- ARGV[9]  status           what the row's becomes; "" leaves it
-- ARGV[10] indexes          JSON list, the indexes of the run's attributes; "" leaves them
-- Then sixteen lists, each as its number of rows and then the rows:
--   given_up        step, attempt
--   unposted        step, attempt
--   unclaimed       step, attempt
--   events          bytes, head after it
--   inbox_ids       id
--   fields          name, value
--   timers_removed  member
--   timers_set      due_ms, member
--   settled         step, attempt
--   sent            step, attempt, start_to_close_ms, heartbeat_ms, local token or ""
--   paused          step
--   resting         step
--   cancelled       step, rest of the outcome's JSON after '{"attempt":<attempt>,'
--   messages        index of the queue among KEYS or "0" for the outbox, queue, body
--   letters         kind, workflow, run, request, body
--   next_run        type, request, first run of the chain, body of the start, indexes of its
--                   attributes (JSON list), further fields (JSON list of names and values)
--
-- Returns "committed" | "fenced" | "conflict" | "claimed"
--
-- H2: a script is not rolled back when it fails half way.  Hence: check all, then write; and the
--     first write is the one that Redis itself may refuse (an event number that is not the next).
-- H3: the lease is compared before anything is written.
-- H4: run, seq and head are compared before anything is written.
-- I1: row and indexes change here together, or not at all.
-- H7: every given-up claim must be there and expired; attempts said to be without an outcome, or
--     without a claim, must be current and so.

local token, workflow, run = ARGV[1], ARGV[2], ARGV[3]
local lease = redis.call("GET", KEYS[1])
if not lease or string.sub(lease, -(#token + 1)) ~= "/" .. token then
    return "fenced"
end
local row = redis.call("HMGET", KEYS[2], "run", "seq", "head", "status", "started_at_ms")
if row[1] ~= run or row[2] ~= ARGV[4] or (row[3] or "") ~= ARGV[5] then
    return "conflict"
end

local time = redis.call("TIME")
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local prefix = workflow .. "." .. run .. "."
local at = 11

-- Returns the indexes of the first and the last argument of the next list.
local function next_list(width)
    local first = at + 1
    local last = at + tonumber(ARGV[at]) * width
    at = last + 1
    return first, last
end

-- Lua's stack holds some 8,000 values; an even number keeps pairs together.
local function call_with_list(command, key, first, last)
    for i = first, last, 1000 do
        redis.call(command, key, unpack(ARGV, i, math.min(i + 999, last)))
    end
end

local given_first, given_last = next_list(2)
for i = given_first, given_last, 2 do
    local expires = redis.call("ZSCORE", KEYS[7], prefix .. ARGV[i] .. "." .. ARGV[i + 1])
    if not expires or tonumber(expires) > now_ms then
        return "claimed"
    end
end

-- Returns the state of a step whose current attempt this is, or "".
local function state_of(step, attempt)
    local found = redis.call("HMGET", KEYS[5], step .. ".attempt", step .. ".state")
    return found[1] == attempt and found[2] or ""
end

local first, last = next_list(2)
for i = first, last, 2 do
    local state = state_of(ARGV[i], ARGV[i + 1])
    if state ~= "scheduled" and state ~= "paused" and state ~= "claimed"
        and state ~= "cancelling" then
        return "claimed"
    end
end
first, last = next_list(2)
for i = first, last, 2 do
    if state_of(ARGV[i], ARGV[i + 1]) ~= "scheduled" then
        return "claimed"
    end
end

-- Nothing has been written so far; nothing is checked from here on.

first, last = next_list(2)
local seq = tonumber(ARGV[4])
for i = first, last, 2 do
    seq = seq + 1
    local id = string.format("%d-0", seq)
    redis.call("XADD", KEYS[3], id, "event", ARGV[i], "head", ARGV[i + 1])
end
if last > first then
    redis.call("HSET", KEYS[2], "seq", string.format("%d", seq), "head", ARGV[last])
end

local name = workflow .. "." .. run
if ARGV[9] ~= "" and ARGV[9] ~= row[4] then
    redis.call("ZREM", KEYS[13] .. "status:" .. row[4], name)
    redis.call("ZADD", KEYS[13] .. "status:" .. ARGV[9], row[5], name)
end
if ARGV[10] ~= "" then
    local before = redis.call("HGET", KEYS[2], "indexes")
    local is_in = {}
    for _, index in ipairs(cjson.decode(before or "[]")) do
        is_in[index] = true
    end
    for _, index in ipairs(cjson.decode(ARGV[10])) do
        if not is_in[index] then
            redis.call("ZADD", KEYS[13] .. index, row[5], name)
        end
        is_in[index] = nil
    end
    for index in pairs(is_in) do
        redis.call("ZREM", KEYS[13] .. index, name)
    end
    redis.call("HSET", KEYS[2], "indexes", ARGV[10])
end

first, last = next_list(1)
call_with_list("XDEL", KEYS[4], first, last)
first, last = next_list(2)
call_with_list("HSET", KEYS[2], first, last)
first, last = next_list(1)
call_with_list("ZREM", KEYS[6], first, last)
first, last = next_list(2)
call_with_list("ZADD", KEYS[6], first, last)

local function end_claim(step, attempt)
    local member = prefix .. step .. "." .. attempt
    redis.call("ZREM", KEYS[7], member)
    redis.call("ZREM", KEYS[6], "start_to_close:" .. member, "heartbeat:" .. member)
end

local function end_waiting(step, attempt)
    local member = prefix .. step .. "." .. attempt
    redis.call("ZREM", KEYS[6], "unclaimed:" .. member, "schedule_to_start:" .. member)
end

local function rest(step)
    local attempt = redis.call("HGET", KEYS[5], step .. ".attempt")
    if attempt then
        end_claim(step, attempt)
        redis.call("HSET", KEYS[5], step .. ".state", "resting")
        redis.call("HDEL", KEYS[5], step .. ".claim", step .. ".external")
    end
end

for i = given_first, given_last, 2 do
    -- The row may be gone, or name a later attempt, which is nobody's to take.
    end_claim(ARGV[i], ARGV[i + 1])
    if redis.call("HGET", KEYS[5], ARGV[i] .. ".attempt") == ARGV[i + 1] then
        rest(ARGV[i])
    end
end

first, last = next_list(2)
for i = first, last, 2 do
    local step = ARGV[i]
    end_claim(step, ARGV[i + 1])
    -- Settled while it rested: the claim is that of the attempt before.
    local before = redis.call("HGET", KEYS[5], step .. ".attempt")
    if before and before ~= ARGV[i + 1] then
        end_claim(step, before)
    end
    redis.call("HDEL", KEYS[5],
        step .. ".attempt", step .. ".state", step .. ".claim", step .. ".external",
        step .. ".start_to_close_ms", step .. ".heartbeat_ms",
        step .. ".details", step .. ".heartbeat_at_ms",
        step .. ".posted_attempt", step .. ".posted_by", step .. ".late_attempt")
end

first, last = next_list(5)
for i = first, last, 5 do
    local step, attempt, locally = ARGV[i], ARGV[i + 1], ARGV[i + 4]
    local before = redis.call("HGET", KEYS[5], step .. ".attempt")
    if before == attempt then
        -- Sent again: a worker may have claimed it meanwhile, so that its row is left alone.
        local state = redis.call("HGET", KEYS[5], step .. ".state")
        if state == "paused" then
            redis.call("HSET", KEYS[5], step .. ".state", "scheduled")
        elseif state ~= "scheduled" then
            end_waiting(step, attempt)
        end
    else
        if before then
            end_claim(step, before)
            redis.call("HDEL", KEYS[5], step .. ".claim", step .. ".external",
                step .. ".heartbeat_at_ms")
        end
        redis.call("HSET", KEYS[5], step .. ".attempt", attempt, step .. ".state", "scheduled",
            step .. ".start_to_close_ms", ARGV[i + 2], step .. ".heartbeat_ms", ARGV[i + 3],
            "open", "1")
        if locally ~= "" then
            local member = prefix .. step .. "." .. attempt
            local start_to_close_ms, heartbeat_ms = tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
            redis.call("HSET", KEYS[5], step .. ".state", "claimed", step .. ".claim", locally)
            redis.call("ZADD", KEYS[7], string.format("%d", now_ms + tonumber(ARGV[8])), member)
            if start_to_close_ms > 0 then
                redis.call("ZADD", KEYS[6], string.format("%d", now_ms + start_to_close_ms),
                    "start_to_close:" .. member)
            end
            if heartbeat_ms > 0 then
                redis.call("ZADD", KEYS[6], string.format("%d", now_ms + heartbeat_ms),
                    "heartbeat:" .. member)
            end
        end
    end
end

first, last = next_list(1)
for i = first, last do
    if redis.call("HGET", KEYS[5], ARGV[i] .. ".state") == "scheduled" then
        redis.call("HSET", KEYS[5], ARGV[i] .. ".state", "paused")
    end
end

first, last = next_list(1)
for i = first, last do
    rest(ARGV[i])
end

first, last = next_list(2)
for i = first, last, 2 do
    local step = ARGV[i]
    local found = redis.call("HMGET", KEYS[5], step .. ".attempt", step .. ".state")
    if found[2] == "claimed" then
        redis.call("HSET", KEYS[5], step .. ".state", "cancelling")
    elseif found[2] == "scheduled" or found[2] == "paused" then
        redis.call("HSET", KEYS[5], step .. ".state", "posted",
            step .. ".posted_attempt", found[1], step .. ".posted_by", "")
        end_waiting(step, found[1])
        redis.call("XADD", KEYS[4], "*", "kind", "outcome", "workflow", workflow, "run", run,
            "body", '{"attempt":' .. found[1] .. "," .. ARGV[i + 1])
    end
end

first, last = next_list(3)
for i = first, last, 3 do
    if ARGV[i] == "0" then
        redis.call("XADD", KEYS[11], "*", "queue", ARGV[i + 1], "body", ARGV[i + 2])
    else
        redis.call("LPUSH", KEYS[tonumber(ARGV[i])], ARGV[i + 2])
    end
end

first, last = next_list(5)
for i = first, last, 5 do
    redis.call("XADD", KEYS[12], "*", "kind", ARGV[i], "workflow", ARGV[i + 1],
        "run", ARGV[i + 2], "request", ARGV[i + 3], "body", ARGV[i + 4])
end

if ARGV[6] == "1" then
    redis.call("SADD", KEYS[10], name)
elseif ARGV[6] == "0" then
    redis.call("SREM", KEYS[10], name)
end
if ARGV[7] ~= "" then
    redis.call("ZREM", KEYS[8], workflow)
    redis.call("ZADD", KEYS[9], ARGV[7], name)
    redis.call("ZREM", KEYS[13] .. "open", name)
    redis.call("SREM", KEYS[10], name)
    local left = redis.call("HGETALL", KEYS[5])
    for i = 1, #left, 2 do
        local step = string.match(left[i], "^(%d+)%.attempt$")
        if step then
            end_claim(step, left[i + 1])
            end_waiting(step, left[i + 1])
        end
    end
    redis.call("DEL", KEYS[5])
end
first, last = next_list(6)
if last > first then
    local opened_ms, next_run = string.format("%d", now_ms), string.format("%d", tonumber(run) + 1)
    local before = redis.call("HMGET", KEYS[2], "joined", "starts", "first", "request")
    local joined, starts = before[1], before[2]
    if not before[3] then
        -- The chain's first run: the request that opened it stays known (H9).
        starts = (starts and starts .. " " or "") .. run .. "=" .. before[4]
    end
    redis.call("RENAME", KEYS[2], KEYS[14] .. run)
    redis.call("HSET", KEYS[2], "run", next_run,
        "status", "pending", "type", ARGV[first], "request", ARGV[first + 1],
        "started_at_ms", opened_ms, "seq", "0", "first", ARGV[first + 2], "start", ARGV[first + 3])
    if joined then
        redis.call("HSET", KEYS[2], "joined", joined)
    end
    if starts then
        redis.call("HSET", KEYS[2], "starts", starts)
    end
    local names, fields = cjson.decode(ARGV[first + 4]), cjson.decode(ARGV[first + 5])
    if #names > 0 then
        redis.call("HSET", KEYS[2], "indexes", ARGV[first + 4])
    end
    for i = 1, #fields, 2 do
        redis.call("HSET", KEYS[2], fields[i], fields[i + 1])
    end
    for _, index in ipairs({"all", "open", "type:" .. ARGV[first], "status:pending"}) do
        names[#names + 1] = index
    end
    for _, index in ipairs(names) do
        redis.call("ZADD", KEYS[13] .. index, opened_ms, workflow .. "." .. next_run)
    end
    redis.call("ZADD", KEYS[8], opened_ms, workflow)
end
return "committed"
