"""Values and pure rules of entitlements: standard library only, `now` is an argument."""
