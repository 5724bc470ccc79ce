"""What `sponsorsync dev` runs instead of the outside world; nothing here is for production."""
