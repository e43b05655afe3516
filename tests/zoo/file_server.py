"""A web server on this machine that sends one file, well or badly."""

import contextlib
import http.server
import threading


class FileServer:
    """What the server sends, and what it was asked for.

    Attributes:
        content: bytes of the file.
        knows_ranges: whether it obeys the header Range.
        break_off_after: how many bytes of a body it sends before it closes the connection,
            for each request in turn; None and the requests after the last: all.
        status: of every answer when not None, without a body.
        ranges: the header Range of each request, or None.
    """

    def __init__(self, content):
        self.content = content
        self.knows_ranges = True
        self.break_off_after = []
        self.status = None
        self.ranges = []
        self.url = None

    def answer(self, request):
        asked = request.headers.get("Range")
        self.ranges.append(asked)
        if self.status is not None:
            request.send_error(self.status)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        total = len(self.content)
        if not self.knows_ranges:
            start = 0
        if start >= total:
            request.send_error(416)
            return
        request.send_response(206 if asked and self.knows_ranges else 200)
        if asked and self.knows_ranges:
            request.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        request.send_header("Content-Length", str(total - start))
        request.end_headers()
        body = self.content[start:]
        number = len(self.ranges) - 1
        if number < len(self.break_off_after):
            body = body[: self.break_off_after[number]]
        request.wfile.write(body)


@contextlib.contextmanager
def serve(content):
    """Yields a `FileServer`, at its `url`, until the block ends."""
    file = FileServer(content)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            file.answer(self)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        file.url = f"http://127.0.0.1:{server.server_port}/encoder.zip"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield file
        finally:
            server.shutdown()
            thread.join()
