-- start_run: open the next run of a workflow id, and post its START; perhaps with a message.
--
-- KEYS[1]  row     hash, the id's latest run
-- KEYS[2]  open    zset
-- KEYS[3]  inbox   stream
-- KEYS[4]  past    what the names of the id's earlier runs' rows begin with
-- KEYS[5]  index   what the names of the partition's indexes begin with
-- ARGV[1]  workflow   id
-- ARGV[2]  request    id of this request; no blanks
-- ARGV[3]  type       the workflow's name
-- ARGV[4]  body       JSON of the START entry
-- ARGV[5]  indexes    JSON list: the indexes of the run's attributes
-- ARGV[6]  kind       of a message that goes with it; "" without one
-- ARGV[7]  message    JSON of its entry
-- ARGV[8]  joined_max requests kept in the row's field "joined"
-- ARGV[9]  starts_max starts kept in the row's field "starts"
-- ARGV[10] barred     statuses of an ended run that this start must not follow, between blanks
-- Then names and values: further fields of the row
--
-- Returns {"started" | "repeated" | "exists" | "barred", run, status}
--
-- H8: while a run is open, no other start writes; its message goes to the run that is open.
-- I1: a run is in its indexes from its start on.  I3: the row before is kept under its own name.
-- P1: whether a start may follow a run that has ended is decided here, and nowhere else.
-- H9: the request is kept in the row: the latest run's own request is told so, open or not; so are
--     the newest of those whose message went to a run that was open, and of those that opened the
--     runs before ("starts": <run>=<request>).

local row = redis.call("HMGET", KEYS[1], "run", "status", "request", "joined", "starts", "first")
local run = "1"
local joined = row[4] or ""
local starts = {}
for entry in string.gmatch(row[5] or "", "%S+") do
    starts[#starts + 1] = entry
end

local function post(kind, body)
    redis.call("XADD", KEYS[3], "*", "kind", kind, "workflow", ARGV[1], "run", run, "body", body)
end

if row[1] then
    if row[3] == ARGV[2] or string.find(" " .. joined .. " ", " " .. ARGV[2] .. " ", 1, true) then
        return {"repeated", row[1], row[2]}
    end
    for _, entry in ipairs(starts) do
        local opened, request = string.match(entry, "^(%d+)=(.*)$")
        if request == ARGV[2] then
            return {"repeated", opened, redis.call("HGET", KEYS[4] .. opened, "status") or ""}
        end
    end
    if redis.call("ZSCORE", KEYS[2], ARGV[1]) then
        if ARGV[6] ~= "" then
            local newest = {}
            for request in string.gmatch(joined, "%S+") do
                newest[#newest + 1] = request
            end
            newest[#newest + 1] = ARGV[2]
            local first = math.max(1, #newest - tonumber(ARGV[8]) + 1)
            run = row[1]
            post(ARGV[6], ARGV[7])
            redis.call("HSET", KEYS[1], "joined", table.concat(newest, " ", first))
        end
        return {"exists", row[1], row[2]}
    end
    if string.find(" " .. ARGV[10] .. " ", " " .. row[2] .. " ", 1, true) then
        return {"barred", row[1], row[2]}
    end
    run = string.format("%d", tonumber(row[1]) + 1)
    if not row[6] then
        -- A run that continues another was opened by no start.
        starts[#starts + 1] = row[1] .. "=" .. row[3]
    end
end

local time = redis.call("TIME")
local now_ms = string.format("%d", tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
post("start", ARGV[4])
if ARGV[6] ~= "" then
    post(ARGV[6], ARGV[7])
end
-- Nothing of the run before may shine through.
if row[1] then
    redis.call("RENAME", KEYS[1], KEYS[4] .. row[1])
end
redis.call("HSET", KEYS[1], "run", run, "status", "pending", "type", ARGV[3],
    "request", ARGV[2], "started_at_ms", now_ms, "seq", "0")
if joined ~= "" then
    -- These requests are of the id, not of the run.
    redis.call("HSET", KEYS[1], "joined", joined)
end
if #starts > 0 then
    local first = math.max(1, #starts - tonumber(ARGV[9]) + 1)
    redis.call("HSET", KEYS[1], "starts", table.concat(starts, " ", first))
end
redis.call("ZADD", KEYS[2], now_ms, ARGV[1])
local names = cjson.decode(ARGV[5])
if #names > 0 then
    redis.call("HSET", KEYS[1], "indexes", ARGV[5])
end
for i = 11, #ARGV, 2 do
    redis.call("HSET", KEYS[1], ARGV[i], ARGV[i + 1])
end
names[#names + 1] = "all"
names[#names + 1] = "open"
names[#names + 1] = "type:" .. ARGV[3]
names[#names + 1] = "status:pending"
for _, name in ipairs(names) do
    redis.call("ZADD", KEYS[5] .. name, now_ms, ARGV[1] .. "." .. run)
end
return {"started", run, "pending"}
