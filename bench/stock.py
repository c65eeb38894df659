"""`python -m bench.stock PORT`: the counterpart of connecting: a WebSocket endpoint as Starlette documents it.

It verifies the same token with the same library and answers a subscription; it keeps no rights, no limits, no positions
and no timers. Run with uvicorn's defaults (uvloop, httptools, its newest WebSocket class, its log).
"""

import os
import sys

import jwt
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

SECRET = os.environ.get("BENCH_SECRET", "")


async def realtime(websocket: WebSocket) -> None:
    try:
        jwt.decode(websocket.query_params["token"], SECRET, algorithms=["HS256"])
    except (KeyError, jwt.InvalidTokenError):
        await websocket.close(4401)
        return
    await websocket.accept()
    try:
        while True:
            wish = await websocket.receive_json()
            await websocket.send_json({"type": "subscribed", "collection": wish["collection"]})
    except WebSocketDisconnect:
        return


app = Starlette(routes=[WebSocketRoute("/api/v1/realtime/ws", realtime)])

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]))
