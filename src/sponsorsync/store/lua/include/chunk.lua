-- How many values a command gets at once: Lua's unpack() fails for more than some 8,000.
local CHUNK = 1000
