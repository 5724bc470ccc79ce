"""The HTTP API and the pages: routes and their wire models, errors, cookies, middleware."""
