"""A network before a server of S3 that loses answers, cuts uploads, and is slow."""

import http.client
import http.server
import random
import threading

# In pieces of this size, so that what is cut is cut within a body.
PIECE = 4096


class Network:
    """Forwards to the server at a port; one in three requests that write goes wrong, each in another way."""

    def __init__(self, port, seed):
        self.port, self.random, self.lock = port, random.Random(seed), threading.Lock()
        self.faults = dict.fromkeys(["answered 503 after it was stored", "cut within the upload", "cut within the answer", "slow"], 0)
        network = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                network.forward(self, None)

            do_HEAD = do_GET

            def do_PUT(self):
                network.forward(self, network.fault())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def fault(self):
        with self.lock:
            fault = self.random.choice([*self.faults, *[None] * 8])
            if fault:
                self.faults[fault] += 1
            return fault

    def forward(self, handler, fault):
        length = int(handler.headers.get("Content-Length", 0))
        if fault == "cut within the upload":
            handler.rfile.read(length // 2)
            handler.close_connection = True
            handler.connection.shutdown(2)
            return
        body = b""
        while len(body) < length:
            # A byte at a time is slow.
            body += handler.rfile.read(min(length - len(body), 1 if fault == "slow" and len(body) < PIECE else PIECE))
        upstream = http.client.HTTPConnection("127.0.0.1", self.port)
        # With its own Host, which is signed.
        upstream.request(handler.command, handler.path, body, dict(handler.headers))
        response = upstream.getresponse()
        answer = response.read()
        upstream.close()
        if fault == "cut within the answer":
            handler.close_connection = True
            handler.connection.shutdown(2)
            return
        if fault == "answered 503 after it was stored":
            handler.send_response(503)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                handler.send_header(name, value)
        handler.send_header("Content-Length", response.getheader("Content-Length", str(len(answer))))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(answer)
