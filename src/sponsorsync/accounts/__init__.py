"""Sign-in, sessions, personal data, and the import of an anonymous visitor's preferences."""
