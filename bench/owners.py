"""PocketBase with many users who see their own records only: rows and tokens, made without a password hash each."""

import http.client
import secrets
import string
import time
from pathlib import Path

import apsw
import jwt
import msgspec

from bench.programs import BenchError
from bench.servers import OWNED, PASSWORD, READY_S, TENANT_FIELDS, Api, PocketBaseServer

LIFETIME_S = 3600
_LETTERS = string.ascii_lowercase + string.digits


class PocketBaseOwners(PocketBaseServer):
    """The collection is `OWNED`; `tokens` holds one of each member.

    Args:
        members: so many.
    """

    def __init__(self, members: int) -> None:
        super().__init__()
        self._members = members
        self._owner = ""

    def start(self, folder: Path) -> None:
        super().start(folder)
        api = Api(self.port, "")
        login = {"identity": "root@example.com", "password": PASSWORD}
        api.token = api.post("/api/collections/_superusers/auth-with-password", login)["token"]
        names = ("listRule", "viewRule")
        rules = dict.fromkeys(names, "owner = @request.auth.id") | {"createRule": '@request.auth.id != ""'}
        fields = [{"name": name, "type": kind} for name, kind in (*TENANT_FIELDS, ("owner", "text"))]
        api.post("/api/collections", {"name": OWNED, "type": "base", "fields": fields, **rules})
        self.stop()
        found = self._add(folder / "data" / "data.db")
        self.again()
        self.token = found[0]
        self.tokens = folder / "owners.txt"
        self.tokens.write_text("".join(f"{token}\n" for token in found))

    def _add(self, database: Path) -> list[str]:
        """Members in the pattern of one that is there, and a token of each."""
        connection = apsw.Connection(str(database))
        try:
            with connection:
                cursor = connection.execute("SELECT id, options FROM _collections WHERE name = 'members'")
                collection, options = next(iter(cursor))
                secret = msgspec.json.decode(options)["authToken"]["secret"]
                cursor = connection.execute("SELECT * FROM members LIMIT 1")
                values = next(iter(cursor))
                one = dict(zip((name for name, _ in cursor.getdescription()), values, strict=True))
                found = []
                for number in range(self._members):
                    own = "".join(secrets.choice(_LETTERS) for _ in range(15))
                    row = one | {"id": own, "email": f"owner{number}@example.com", "tokenKey": secrets.token_hex(25)}
                    marks = ", ".join("?" * len(row))
                    connection.execute(
                        f"INSERT INTO members({', '.join(row)}) VALUES ({marks})",  # noqa: S608 - names of columns
                        tuple(row.values()),
                    )
                    claims = {"id": own, "type": "auth", "collectionId": collection, "refreshable": True}
                    key = row["tokenKey"] + secret
                    found.append(jwt.encode(claims | {"exp": int(time.time()) + LIFETIME_S}, key, algorithm="HS256"))
                    self._owner = self._owner or own
        finally:
            connection.close()
        return found

    def write(self, events: int) -> None:
        """Records of the first member, one after the other. Raises BenchError when one is refused."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=READY_S)
        headers = {"Authorization": self.token, "Content-Type": "application/json"}
        try:
            for number in range(1, events + 1):
                body = {"seqno": number, "writer": 1, "tenant": "acme", "body": "x" * 100, "owner": self._owner}
                connection.request("POST", f"/api/collections/{OWNED}/records", msgspec.json.encode(body), headers)
                answer = connection.getresponse()
                text = answer.read()
                if answer.status != 200:
                    raise BenchError(f"PocketBase: {answer.status} {text[:200].decode(errors='replace')}")
        finally:
            connection.close()
