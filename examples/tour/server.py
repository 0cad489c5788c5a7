"""A small HTTP server that answers one request and ends.

    python3 server.py --free-port     prints `port=N` of a port that is free now
    python3 server.py N               answers one request on that port
"""

import http.server
import json
import socket
import sys


class Weather(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"station": self.path.partition("station=")[2], "celsius": 21.5}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if sys.argv[1] == "--free-port":
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        print(f"port={probe.getsockname()[1]}")
else:
    server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Weather)
    server.timeout = 30
    server.handle_request()
