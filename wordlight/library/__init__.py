"""Photo libraries: which photographs to caption, and where their captions go."""
