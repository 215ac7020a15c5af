"""A web service that needs its database and its cache: counts visits in both.

GET /        records a visit; answers {"database": N, "cache": N, "host": NAME}
GET /healthz answers 200 while both can be reached
"""

import json
import os
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg2
import redis

HOST = socket.gethostname()


def database():
    password = os.environ.get("DATABASE_PASSWORD", "")
    return psycopg2.connect(
        host="db", user="app", dbname="app", password=password, connect_timeout=3
    )


def visit():
    with database() as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO visits DEFAULT VALUES")
        cursor.execute("SELECT count(*) FROM visits")
        (rows,) = cursor.fetchone()
    hits = redis.Redis(host="cache", socket_timeout=3).incr("visits")
    return {"database": rows, "cache": hits, "host": HOST}


def healthy():
    with database() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    redis.Redis(host="cache", socket_timeout=3).ping()
    return {"healthy": True}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            status, body = 200, healthy() if self.path == "/healthz" else visit()
        except (psycopg2.Error, redis.RedisError) as error:
            status, body = 503, {"error": str(error)}
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


with database() as start, start.cursor() as first:
    first.execute("CREATE TABLE IF NOT EXISTS visits (at timestamptz DEFAULT now())")
ThreadingHTTPServer(("", 8000), Handler).serve_forever()
