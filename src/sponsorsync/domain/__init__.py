"""Pure values and rules of entitlements: standard library only, `now` is passed in."""
