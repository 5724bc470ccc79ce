-- Lua can put some 8,000 values on its stack at once; more in one unpack is an error.
local CHUNK = 1000
