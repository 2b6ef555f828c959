-- replace_key: put another wrapped data key in the place of the one that is expected there.
--
-- KEYS[1]  keys     hash, scope → wrapped data key
-- ARGV[1]  scope
-- ARGV[2]  expected
-- ARGV[3]  wrapped
--
-- Returns 1 | 0
--
-- H9: sent twice, the second finds what the first has written, and says 1 as well.

local found = redis.call("HGET", KEYS[1], ARGV[1])
if found == ARGV[3] then
    return 1
end
if found ~= ARGV[2] then
    return 0
end
redis.call("HSET", KEYS[1], ARGV[1], ARGV[3])
return 1
