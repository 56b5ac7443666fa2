"""Decides who may do what: API keys, tickets, rate limits, and which web pages may send requests."""
