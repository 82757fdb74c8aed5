"""A web server in this process that publishes files, as a hub and as plain addresses, and fails where it is told to."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PAGE = b"<!DOCTYPE html><html><title>Sign in</title></html>"


@dataclass
class Publisher:
    """What is published, and what was asked for.

    Attributes:
        url: Its address.
        files: Content by path.
        break_after: Bytes after which an answer breaks off.
        claimed: Length that answers claim instead of their own.
        proxied: Whether a proxy's page comes instead of everything.
        asked: Path and first byte of every request.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    break_after: int | None = None
    claimed: int | None = None
    proxied: bool = False
    asked: list[tuple[str, int]] = field(default_factory=list)

    def publish(self, model: str, folder: Path) -> None:
        """Publish a folder as a model of the hub: large files by SHA-256, small ones by git's hash."""
        siblings = []
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name, content = path.relative_to(folder).as_posix(), path.read_bytes()
            self.files[f"/{model}/resolve/{COMMIT}/{name}"] = content
            one = {"rfilename": name, "size": len(content)}
            one["blobId"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            if path.suffix in (".safetensors", ".bin"):
                one["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
            siblings.append(one)
        self.files[f"/api/models/{model}/revision/main"] = json.dumps({"sha": COMMIT, "siblings": siblings}).encode()


@contextmanager
def publisher() -> Iterator[Publisher]:
    """A server on this machine, as long as the block lasts."""
    published = Publisher()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, first = self.path.partition("?")[0], 0
            if wanted := self.headers["Range"]:
                first = int(wanted.removeprefix("bytes=").removesuffix("-"))
            published.asked.append((path, first))
            content = PAGE if published.proxied else published.files.get(path)
            if content is None:
                self.send_error(404)
                return
            tag = f'"{hashlib.sha256(content).hexdigest()}"'
            if first and self.headers["If-Range"] not in (None, tag):
                first = 0
            if first and first >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = content[first:]
            self.send_response(206 if first else 200)
            self.send_header("Content-Type", "text/html" if published.proxied else "application/octet-stream")
            self.send_header("Content-Length", str(published.claimed or len(body)))
            self.send_header("ETag", tag)
            self.end_headers()
            self.wfile.write(body[: published.break_after])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        published.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield published
        finally:
            server.shutdown()
            thread.join()
