"""What applies to every HTTP request: the server, request ids, security headers and the access log."""
