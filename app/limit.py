"""A rate limit as people write it: "60/minute", or several that hold together, "5/second;1000/day"."""

from functools import cache

from limits import RateLimitItem, parse_many

# What was spent is kept place by place for as long as the limit looks back.
_MOST_PICTURES = 1_000_000
_LONGEST_SECONDS = 366 * 86_400


@cache
def parse_limit(text: str) -> tuple[RateLimitItem, ...]:
    """The limits in `text`, the shortest period first. Raises ValueError with one line."""
    try:
        limits = parse_many(text)
    except ValueError:
        raise ValueError(f'a limit is written "60/minute" or "5/second;1000/day", and not {text!r}') from None
    for limit in limits:
        if not 1 <= limit.amount <= _MOST_PICTURES:
            raise ValueError(f"a limit is of 1 to {_MOST_PICTURES:,} pictures, and not of {limit.amount:,}")
        if limit.get_expiry() > _LONGEST_SECONDS:
            raise ValueError("a limit looks back a year at most")
    return tuple(sorted(limits, key=lambda limit: limit.get_expiry()))
