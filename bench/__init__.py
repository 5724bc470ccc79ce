"""How fast the sync engine is, beside the original's way and beside the limits: `make bench`.

Every contender moves the same people between the same two servers, one after the other in each
round, so that whatever else the machine does hits all of them. Nothing here is asserted in a test.
"""
