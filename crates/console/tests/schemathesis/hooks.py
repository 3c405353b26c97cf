"""What the fuzzer sends besides what it makes from the OpenAPI document: ids of what the console of the test has, the present revision of
the configuration, and model packages. Without these, nearly every request would end at "not found" or "changed in the meantime".

Loaded by tests/console/schemathesis.rs, which passes the ids in GRIDWATCH_FUZZED.
"""

import json
import os
from collections import Counter
from pathlib import Path

import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis.core.parameters import ParameterLocation

KNOWN = json.loads(os.environ["GRIDWATCH_FUZZED"])
# Ids in paths, by the path.
PATHS = KNOWN["paths"]
# A model package that can be installed.
PACKAGE = Path(KNOWN["package"]).read_bytes()
# A bearer token, if the console has users.
HEADERS = KNOWN["headers"]
# Nothing listens there: the fuzzer must reach no other machine.
NO_CAMERA = "rtsp://127.0.0.1:9/"

calls = Counter()
# The newest id that a path has answered with, such as that of a search.
started = {}
# What was read and holds until the next change.
seen = {}

schemathesis.openapi.media_type("application/x-tar", st.one_of(st.just(PACKAGE), st.binary(min_size=1, max_size=2000)))


@schemathesis.serializer("application/x-tar")
def package(ctx, value):
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def revision():
    """The present revision of the configuration; None if it cannot be read."""
    if "revision" not in seen:
        answer = requests.get(f"{KNOWN['address']}/api/v1/schedules", headers=HEADERS, timeout=60)
        seen["revision"] = answer.json().get("revision") if answer.ok else None
    return seen["revision"]


@schemathesis.hook
def before_call(context, case, kwargs):
    operation = case.operation
    label = f"{operation.method.upper()} {operation.path}"
    # One in four stays as it was made, so that unknown ids and old revisions are asked for, too.
    calls[label] += 1
    is_known = calls[label] % 4 != 0
    valid = lambda location: case.meta is None or not case.meta.is_negative_at(location)
    if is_known and valid(ParameterLocation.PATH) and case.path_parameters:
        ids = PATHS.get(label) or PATHS.get(operation.path) or {}
        parent = operation.path.split("/{")[0]
        if parent in started:
            ids = {**ids, "id": started[parent]}
        for name, value in ids.items():
            if name in case.path_parameters:
                case.path_parameters[name] = value
    if valid(ParameterLocation.QUERY) and case.query and "revision" in case.query and is_known:
        case.query["revision"] = revision() or case.query["revision"]
    body = case.body
    if isinstance(body, dict) and valid(ParameterLocation.BODY):
        if is_known and "revision" in body:
            body["revision"] = revision() or body["revision"]
        if operation.path == "/api/v1/camera-probes":
            body["target"] = NO_CAMERA
        if operation.path == "/api/v1/configuration/text" and is_known:
            # Never the main file: the other operations need it.
            body["file"] = "conf.d/fuzzed.toml"
        if operation.path == "/api/v1/cameras" and "/api/v1/camera-probes" in started and is_known:
            body["probe"] = started["/api/v1/camera-probes"]


@schemathesis.hook
def after_call(context, case, response):
    if case.operation.method.upper() != "GET":
        seen.clear()
    if case.operation.method.upper() == "POST" and response.status_code == 200:
        try:
            started[case.operation.path] = response.json()["id"]
        except (ValueError, KeyError, TypeError):
            pass
