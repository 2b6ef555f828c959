-- post_message: put a message for a run into the inbox.
--
-- KEYS[1]  row     hash, the id's latest run
-- KEYS[2]  open    zset
-- KEYS[3]  inbox   stream
-- ARGV[1]  workflow    id
-- ARGV[2]  kind        of the entry
-- ARGV[3]  run         number; "0" for whichever is open; one that was continued stands for the
--                      run that goes on
-- ARGV[4]  body        JSON
-- ARGV[5]  to_closed   "1" where a closed run takes it too
--
-- Returns {"posted" | "closed", run, status} | {"not_found", run, ""}; the status of a run that a
-- later one replaced is "": its row is kept elsewhere (I3).
--
-- Not protected against repetition: each body carries an id by which the owner recognises it.

local row = redis.call("HMGET", KEYS[1], "run", "status", "first")
if not row[1] or tonumber(ARGV[3]) > tonumber(row[1]) then
    return {"not_found", ARGV[3], ""}
end
local run, status = ARGV[3], ""
-- A run that continues another takes what is meant for any run of its chain.
if run ~= "0" and row[3] and tonumber(run) >= tonumber(row[3]) then
    run = row[1]
end
if run == "0" or run == row[1] then
    run, status = row[1], row[2]
end
local is_open = run == row[1] and redis.call("ZSCORE", KEYS[2], ARGV[1])
if not is_open and ARGV[5] ~= "1" then
    return {"closed", run, status}
end
-- The entry names the run that was open now: a later run of the id never gets its mail.
redis.call("XADD", KEYS[3], "*", "kind", ARGV[2], "workflow", ARGV[1], "run", run,
    "body", ARGV[4])
return {"posted", run, status}
