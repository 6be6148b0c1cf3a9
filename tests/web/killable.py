"""A server that dies at once and is there again at once: imported once, then forked for each life.

Run as a script with the folder and the port: each line on its input starts a server, whose process id it prints.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import uvicorn
from starlette.testclient import TestClient

from restain.web import ServeOptions, create_app


def main() -> None:
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    app = create_app(ServeOptions(folder, port=port, reading_room=True))
    config = uvicorn.Config(app, port=port, log_level="error")
    config.load()
    TestClient(app, base_url="http://127.0.0.1").get("/api/reading/none")  # loads what is loaded at the first request
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            uvicorn.Server(config).run()
            os._exit(0)
        print(child, flush=True)
        os.waitpid(child, 0)
        print("dead", flush=True)


if __name__ == "__main__":
    main()
