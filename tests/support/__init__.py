"""What several tests share: servers, processes and clients."""
