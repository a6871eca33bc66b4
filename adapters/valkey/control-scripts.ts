/** What is changed in a bucket's control hash in one step: scripts of their own, since no plan is needed for them. */

// KEYS[1] control hash; ARGV[1] field, ARGV[2] head, then field and value of each group. Never touches a bucket that is there.
export const CREATE = `
if redis.call("EXISTS", KEYS[1]) == 1 then return 0 end
return redis.call("HSET", KEYS[1], unpack(ARGV))`;

// KEYS[1] control hash; ARGV[1] field, ARGV[2] new head, ARGV[3..] first 5 bytes (epoch, state) of heads that may change.
export const SET_STATE = `
local head = redis.call("HGET", KEYS[1], ARGV[1])
if not head then return -1 end
for i = 3, #ARGV do
  if string.sub(head, 1, 5) == ARGV[i] then redis.call("HSET", KEYS[1], ARGV[1], ARGV[2]); return 1 end
end
return 0`;

// KEYS[1] control hash; ARGV[1] field, ARGV[2] and ARGV[3] first 5 bytes (epoch, state) of a head before and after.
export const OPEN = `
local head = redis.call("HGET", KEYS[1], ARGV[1])
if not head or string.sub(head, 1, 5) ~= ARGV[2] then return 0 end
return redis.call("HSET", KEYS[1], ARGV[1], ARGV[3] .. string.sub(head, 6))`;

// KEYS[1] control hash; ARGV[1] field, ARGV[2] run id of the primary. State 1 (ok) becomes 3 (failover) when it is another.
export const NOTICE_FAILOVER = `
local head = redis.call("HGET", KEYS[1], ARGV[1])
if not head or string.byte(head, 5) ~= 1 or string.sub(head, 6) == ARGV[2] then return 0 end
redis.call("HSET", KEYS[1], ARGV[1], string.sub(head, 1, 4) .. string.char(3) .. string.sub(head, 6))
return 1`;

// KEYS[1] control hash; ARGV[1] field, ARGV[2..] marks of which one must stand in it.
export const PUSHED_IS_BACK = `
local mark = redis.call("HGET", KEYS[1], ARGV[1])
for i = 2, #ARGV do if mark == ARGV[i] then return redis.call("HDEL", KEYS[1], ARGV[1]) end end
return 0`;

// KEYS[1] control hash; ARGV[1] head field, ARGV[2] group field, ARGV[3] u32 seal and births. The seal never goes back and
// stands still while a failover is not cleared.
export const PUT_GROUP = `
local head = redis.call("HGET", KEYS[1], ARGV[1])
if not head then return -1 end
local old = redis.call("HGET", KEYS[1], ARGV[2])
local seal = struct.unpack("<I4", ARGV[3])
if old then
  local before = struct.unpack("<I4", old)
  if before > seal or string.byte(head, 5) ~= 1 then seal = before end
end
return redis.call("HSET", KEYS[1], ARGV[2], struct.pack("<I4", seal) .. string.sub(ARGV[3], 5))`;

// KEYS[1] control hash; ARGV[1] head field, ARGV[2] how fields of the stream's groups end, ARGV[3] u32 seal, ARGV[4] store time (µs) from
// which on nothing moves: the announcement that keeps late events from it counts no longer then. Also groups that this plan doesn't know:
// one of a newer plan, or one that comes back, must not lie behind what counts as sealed.
export const MOVE_SEAL = `
local time = redis.call("TIME")
if time[1] * 1000000 + time[2] >= tonumber(ARGV[4]) then return 0 end
local head = redis.call("HGET", KEYS[1], ARGV[1])
if not head or string.byte(head, 5) ~= 1 then return 0 end
local seal, moved = struct.unpack("<I4", ARGV[3]), 0
for _, field in ipairs(redis.call("HKEYS", KEYS[1])) do
  if string.sub(field, 1, 2) == "g:" and string.sub(field, -#ARGV[2]) == ARGV[2] then
    local old = redis.call("HGET", KEYS[1], field)
    if struct.unpack("<I4", old) < seal then
      redis.call("HSET", KEYS[1], field, ARGV[3] .. string.sub(old, 5))
      moved = moved + 1
    end
  end
end
return moved`;

// KEYS[1] control hash; ARGV[1] head field, ARGV[2] group field, ARGV[3] u32 seal and births, ARGV[4] births that must stand
// there, or "none".
export const PUT_BIRTHS = `
if redis.call("HEXISTS", KEYS[1], ARGV[1]) == 0 then return -1 end
local old = redis.call("HGET", KEYS[1], ARGV[2])
if not old then return redis.call("HSET", KEYS[1], ARGV[2], ARGV[3]) end
if string.sub(old, 5) ~= ARGV[4] then return 0 end
return redis.call("HSET", KEYS[1], ARGV[2], string.sub(old, 1, 4) .. string.sub(ARGV[3], 5))`;

// KEYS[1] control hash; ARGV[1] head field, ARGV[2] group field, ARGV[3] epoch and state, ARGV[4] u32 seal, ARGV[5] births of
// the slots that are complete: those of them that lie at or below the seal now take the given one, if it is earlier.
export const COMPLETE = `
local head = redis.call("HGET", KEYS[1], ARGV[1])
local old = head and redis.call("HGET", KEYS[1], ARGV[2])
if not old or string.sub(head, 1, 5) ~= ARGV[3] or string.sub(old, 1, 4) ~= ARGV[4] then return 0 end
local seal, born, out = struct.unpack("<I4", old), {}, { ARGV[4] }
for at = 1, #ARGV[5], 6 do born[string.sub(ARGV[5], at, at + 1)] = struct.unpack("<I4", ARGV[5], at + 2) end
for at = 5, #old, 6 do
  local slot, birth = string.sub(old, at, at + 1), struct.unpack("<I4", old, at + 2)
  local from = born[slot]
  if from and birth <= seal and from < birth then birth = from end
  out[#out + 1] = slot .. struct.pack("<I4", birth)
end
redis.call("HSET", KEYS[1], ARGV[2], table.concat(out))
return 1`;

// KEYS[1] control hash; ARGV[1] head field, ARGV[2] field, ARGV[3] value: only in a bucket that is there.
export const MARK = `
if redis.call("HEXISTS", KEYS[1], ARGV[1]) == 0 then return -1 end
return redis.call("HSET", KEYS[1], ARGV[2], ARGV[3])`;
