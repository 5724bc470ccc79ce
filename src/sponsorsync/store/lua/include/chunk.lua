-- Lua can unpack some 8,000 values at once; more are an error.
local CHUNK = 1000
