-- grant_lease: take a partition's lease, if it is free or this owner's.
--
-- KEYS[1]  lease    string "<owner>/<token>"
-- ARGV[1]  owner
-- ARGV[2]  token    without "/"
-- ARGV[3]  ttl_ms
--
-- Returns 1 | 0
--
-- H3: whoever holds it under another owner's name keeps it until it expires.

local lease = redis.call("GET", KEYS[1])
if lease and string.match(lease, "^(.*)/[^/]*$") ~= ARGV[1] then
    return 0
end
redis.call("SET", KEYS[1], ARGV[1] .. "/" .. ARGV[2], "PX", ARGV[3])
return 1
