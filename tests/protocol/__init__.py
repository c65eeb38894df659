"""The wire: frames, streams, handshakes and messages, byte by byte."""
