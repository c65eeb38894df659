"""The standing proof: live lists of several kinds of clients stay equal to the server's own, whatever happens.

`make proof` runs it for half an hour, `tests/proof/test_proof.py` for some seconds. Clients keep lists behind a real
nginx and a proxy that makes faults, while writers write, rules, rights and schemas change, and the server is killed
and started again. At every checkpoint all writers pause, everybody catches up, and each list has to be what
`GET /records` answers for that user, byte for byte.

Several nodes share a PostgreSQL with a standby, and perhaps a NATS: nodes are killed, paused and replaced, the broker
is killed, paused and cut off, hints are lost, doubled and late, the database is restarted, killed and replaced by its
standby; and each list has to be what every node answers.

It uses public doors only: REST, WebSocket, SSE.
"""
