"""The outside world: folders, files, database, network. Adapters translate foreign errors and know no other adapter."""
