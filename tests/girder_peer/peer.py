"""A real Girder 5 on loopback with its database in memory; run by pytest in an environment of its own.

Writes where it serves, and its administrator's token, to the file that PEER_OUT names, and
ends with its standard input. Its access log is in PEER_FOLDER.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys

import mongomock
import mongomock.codec_options
import pytest

FOLDER = pathlib.Path(os.environ["PEER_FOLDER"])


@pytest.fixture(autouse=True)
def _database_in_memory(monkeypatch):
    """Let Girder take mongomock's cursors and options for MongoDB's."""
    from girder.api import rest

    cursors = (mongomock.collection.Cursor, mongomock.command_cursor.CommandCursor)
    monkeypatch.setattr(mongomock.codec_options, "is_supported", lambda *_: None)
    # as Girder gives MongoDB's cursors back what newer drivers lack
    monkeypatch.setattr(
        mongomock.collection.Cursor, "count", lambda self, *_: len(list(self.clone())), raising=False
    )
    monkeypatch.setattr(rest, "_MONGO_CURSOR_TYPES", (*rest._MONGO_CURSOR_TYPES, *cursors))


def _peer_resource():
    """Return the route that names the file that an item's image is, as the plugin does by itself."""
    from bson import ObjectId
    from girder.api import access
    from girder.api.describe import Description, describeRoute
    from girder.api.rest import Resource
    from girder.models.item import Item

    class Peer(Resource):
        def __init__(self):
            super().__init__()
            self.resourceName = "peer"
            self.route("PUT", (":item", ":file"), self.name_file)

        @access.admin
        @describeRoute(Description("Name a file."))
        def name_file(self, item, file, params):
            document = Item().load(item, force=True)
            document["largeImage"] = {"fileId": ObjectId(file)}
            Item().save(document)

    return Peer()


def test_serve(boundServer, db, admin):
    import cherrypy
    from girder.models.assetstore import Assetstore
    from girder.models.item import Item
    from girder.models.token import Token

    cherrypy.log.access_file = str(FOLDER / "access.log")
    Assetstore().createFilesystemAssetstore("files", str(FOLDER / "files"))
    Item().exposeFields(level=0, fields="largeImage")  # as its large_image plugin does
    boundServer.apps["/api"].root.v1.peer = _peer_resource()
    answer = {
        "url": f"http://127.0.0.1:{boundServer.boundPort}",
        "token": str(Token().createToken(admin)["_id"]),
    }
    part = pathlib.Path(os.environ["PEER_OUT"] + ".part")
    part.write_text(json.dumps(answer))
    part.rename(os.environ["PEER_OUT"])
    sys.stdin.read()
