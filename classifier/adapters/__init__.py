"""The outside world: folders, files, the database, the network. Adapters translate foreign errors and know nothing of each other."""
