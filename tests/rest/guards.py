"""Asks for every change that the OpenAPI document has: without a token, as a viewer, and with a stale version.

Arguments: the router's URL, the folder of certificates and tokens, a manifest of the pipeline default/guarded.
"""

import json
import pathlib
import sys

import requests

URL, CERTS, MANIFEST = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])

session = requests.Session()
# Neither proxies nor authorities of the machine come into it.
session.trust_env = False
session.verify = str(CERTS / "ca.crt")


def ask(method, path, token=None, version=None, body=None):
    headers = {}
    if token:
        headers["authorization"] = "Bearer " + (CERTS / f"{token}.token").read_text().strip()
    if version is not None:
        headers["if-match"] = f'"{version}"'
    return session.request(method, URL + path, headers=headers, json=body, timeout=60)


def expect(answer, status, code=None):
    what = f"{answer.request.method} {answer.request.url}"
    if answer.status_code != status:
        sys.exit(f"{what}: {answer.status_code} instead of {status}: {answer.text}")
    if code:
        kind = answer.headers["content-type"]
        problem = answer.json()
        if kind != "application/problem+json" or problem["code"] != code:
            sys.exit(f"{what}: not the problem {code}: {kind} {answer.text}")


ONE = "/v1/pipelines/default/guarded"
BODIES = {"plan": {"manifest": MANIFEST.read_text()}, "rollback": {"version": 1}, "routers": {"id": 9, "address": "127.0.0.1:9"}}


def body_of(operation, path):
    if "requestBody" not in operation:
        return None
    return BODIES.get(path.rsplit("/", 1)[1], BODIES["plan"])


made = ask("PUT", ONE, "operator", body=BODIES["plan"])
expect(made, 201)
expect(ask("PUT", ONE, "operator", version=made.headers["etag"].strip('"'), body=BODIES["plan"]), 200)
before = ask("GET", "/v1/pipelines", "viewer")
expect(before, 200)

# A restore is refused before the version is looked at unless the backup is whole.
whole = ask("GET", "/v1/cluster/backup", "admin")
expect(whole, 200)
BODIES["restore"] = whole.json()

changes = 0
for path, operations in ask("GET", "/openapi.json").json()["paths"].items():
    for method, operation in operations.items():
        filled = path.replace("{namespace}", "default").replace("{name}", "guarded").replace("{id}", "999")
        if method == "get":
            public = path in ("/healthz", "/readyz")
            expect(ask("GET", filled), 200 if public else 401)
            # All of the control state in one piece is for admins.
            admins = path == "/v1/cluster/backup"
            expect(ask("GET", filled, "viewer"), 403 if admins else 200)
            expect(ask("GET", filled, "admin"), 200)
            continue
        changes += 1
        body = body_of(operation, path)
        expect(ask(method.upper(), filled, body=body), 401, "unauthenticated")
        expect(ask(method.upper(), filled, "viewer", body=body), 403, "permission-denied")
        if path != "/v1/plan":
            expect(ask(method.upper(), filled, "admin", version=99, body=body), 412)

after = ask("GET", "/v1/pipelines", "viewer")
if [p["version"] for p in after.json()["items"]] != [p["version"] for p in before.json()["items"]]:
    sys.exit(f"something changed: {json.dumps(before.json())} {json.dumps(after.json())}")
print(f"{changes} changes are guarded")
