"""Tests Note over HTTP: `concert dev --start '.venv/bin/python -m unittest discover tests'`."""

import json
import os
import unittest
import uuid
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

API = os.environ.get("CONCERT_API", "http://127.0.0.1:8000/api")


def post(path: str, **body: str) -> tuple[int, Any]:
    """Sends a request, and returns status and body of the response."""
    headers = {"content-type": "application/json"}
    request = Request(API + path, json.dumps(body).encode(), headers)
    try:
        with urlopen(request) as response:
            return response.status, json.load(response)
    except HTTPError as error:
        return error.code, json.load(error)


class TestNote(unittest.TestCase):
    def test_is_found_until_it_is_deleted(self) -> None:
        writer = str(uuid.uuid4())
        status, created = post("/note/create", writer=writer, text="Hello")
        self.assertEqual(status, 200, created)
        _, listed = post("/note/find", writer=writer)
        self.assertEqual(listed["found"], [{"note": created["note"], "text": "Hello"}])
        self.assertEqual(post("/note/delete", note=created["note"])[0], 200)
        self.assertEqual(post("/note/find", writer=writer)[1], {"found": []})
        self.assertEqual(post("/note/delete", note=created["note"])[0], 404)

    def test_empty_text_is_refused(self) -> None:
        status, refused = post("/note/create", writer="ada", text="")
        self.assertEqual((status, refused), (400, {"error": "The text is empty"}))
