"""The routes of the HTTP API, and what they accept and return."""
