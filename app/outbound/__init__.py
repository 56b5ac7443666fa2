"""Requests to other people's servers: images by URL, and webhooks."""
