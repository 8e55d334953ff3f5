"""How the application is listened to: one server with bounds on every connection."""

from __future__ import annotations

import socket

import uvicorn
from fastapi import FastAPI

from nasplatform.errors import ConfigError
from nasplatform.service.connections import guarded
from nasplatform.service.settings import Settings


def server_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """Return what uvicorn needs to serve the application: no proxies, no logs of its own."""
    return uvicorn.Config(
        app,
        http=guarded(settings),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=10,
    )


def bound(host: str, port: int) -> socket.socket:
    """Take the address before anything is loaded; raise ConfigError where that cannot be."""
    made = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except OSError as error:
        if made is not None:
            made.close()
        raise ConfigError(
            f"--host {host} --port {port}: cannot be listened on ({error.strerror}); is another "
            f"service there? --port 0 takes a free one"
        ) from None
    made.set_inheritable(True)
    return made
