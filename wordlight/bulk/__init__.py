"""`wordlight bulk`: captions a folder or a bucket of millions of pictures, on as many machines as a Ray cluster has."""
