"""The pure core of realtime: no clock, socket, task or randomness; time and bytes come in, bytes and decisions out."""
