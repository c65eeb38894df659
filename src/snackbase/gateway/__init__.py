"""The edge of realtime: sockets and ASGI on one side, the hub's connections and shared bytes on the other."""
