"""The standing proof: live lists of several kinds of clients stay equal to the server's own, whatever happens.

`make proof` runs it for half an hour, `tests/proof/test_proof.py` for some seconds. Clients keep lists behind a real
nginx and a proxy that makes faults, while writers write, rules, rights and schemas change, and the server is killed
and started again. At every checkpoint all writers pause, everybody catches up, and each list has to be what
`GET /records` answers for that user, byte for byte.

It uses public doors only: REST, WebSocket, SSE.
"""
