"""How good the captions are, whether attention falls on what they name, and whether they can be trusted."""
