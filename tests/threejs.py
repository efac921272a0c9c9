"""three.js in headless Chromium, with software rendering and without a network: another viewer's opinion."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.npm import MODULES, npm_missing

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_PATIENCE = 120.0

_PAGE = """<!doctype html><canvas id="c"></canvas>
<script type="importmap">{"imports": {"three": "/three/build/three.module.js"}}</script>
<script type="module">
import * as THREE from "three";
import { GLTFLoader } from "/three/examples/jsm/loaders/GLTFLoader.js";
import { DRACOLoader } from "/three/examples/jsm/loaders/DRACOLoader.js";
import { MeshoptDecoder } from "/three/examples/jsm/libs/meshopt_decoder.module.js";
const answer = (body) => fetch("/answer", { method: "POST", body: JSON.stringify(body) });
window.onerror = (message) => answer({ error: String(message) });
window.onunhandledrejection = (event) => answer({ error: String(event.reason) });
const problems = [];
for (const level of ["warn", "error"]) {
  console[level] = (...words) => problems.push(words.map(String).join(" "));
}
const view = await (await fetch("/view.json")).json();
const canvas = document.getElementById("c");
const options = { canvas, alpha: true, antialias: false, preserveDrawingBuffer: true };
const renderer = new THREE.WebGLRenderer(options);
renderer.setSize(view.size, view.size, false);
renderer.setClearColor(0, 0);
const camera = new THREE.PerspectiveCamera(view.fov, 1, view.near, view.far);
camera.position.fromArray(view.position);
camera.lookAt(...view.target);
const scene = new THREE.Scene();
scene.add(new THREE.HemisphereLight(0xffffff, 0x888888, 3));
const loader = new GLTFLoader();
loader.setDRACOLoader(new DRACOLoader().setDecoderPath("/three/examples/jsm/libs/draco/gltf/"));
loader.setMeshoptDecoder(MeshoptDecoder);
const gltf = await loader.loadAsync("/asset.glb");
scene.add(gltf.scene);
renderer.render(scene, camera);
await answer({
  picture: canvas.toDataURL("image/png").split(",")[1],
  triangles: renderer.info.render.triangles,
  textures: renderer.info.memory.textures,
  problems,
});
</script>"""


@dataclass(frozen=True, eq=False)
class Shot:
    """What three.js made of a file.

    Attributes
    ----------
    picture : uint8 (s, s, 4), nothing where no surface is.
    triangles, textures : how many it drew and uploaded.
    problems : what it wrote to the console.
    """

    picture: NDArray[np.uint8]
    triangles: int
    textures: int
    problems: list[str]


def browser_missing() -> str | None:
    """None if three.js can run here; otherwise the reason why not."""
    if not any(map(shutil.which, _BROWSERS)):
        return "Chromium is not installed"
    return npm_missing("three")


def shoot(
    glb: Path,
    position: NDArray[np.float64],
    target: NDArray[np.float64],
    fov: float,
    size: int,
) -> Shot:
    """Load a GLB with three's GLTFLoader and draw it; skips the calling test where that cannot be.

    Parameters
    ----------
    position, target : of the camera, in the frame of the file's scene; up is +y.
    fov : vertical field of view in degrees.
    size : pixels along a side.
    """
    reason = browser_missing()
    if reason:
        pytest.skip(reason)
    distance = float(np.linalg.norm(position - target))
    view = {
        "position": position.tolist(),
        "target": target.tolist(),
        "fov": fov,
        "near": distance / 100,
        "far": distance * 100,
        "size": size,
    }
    answers: list[bytes] = []
    answered = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            types = {".js": "text/javascript", ".wasm": "application/wasm"}
            if self.path == "/":
                self._send(_PAGE.encode(), "text/html")
            elif self.path == "/view.json":
                self._send(json.dumps(view).encode(), "application/json")
            elif self.path == "/asset.glb":
                self._send(glb.read_bytes(), "model/gltf-binary")
            elif self.path.startswith("/three/") and (MODULES / self.path[1:]).is_file():
                file = MODULES / self.path[1:]
                self._send(file.read_bytes(), types.get(file.suffix, "application/octet-stream"))
            else:
                self.send_error(404)

        def do_POST(self) -> None:
            answers.append(self.rfile.read(int(self.headers["Content-Length"])))
            self._send(b"", "text/plain")
            answered.set()

        def _send(self, data: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = subprocess.Popen(
            [
                next(filter(None, map(shutil.which, _BROWSERS))),
                "--headless=new",
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--use-gl=angle",
                "--use-angle=swiftshader",
                "--enable-unsafe-swiftshader",
                "--no-first-run",
                "--disable-background-networking",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                f"--user-data-dir={profile}",
                f"http://127.0.0.1:{server.server_address[1]}/",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert answered.wait(_PATIENCE), "three.js gave no answer"
        finally:
            browser.terminate()
            browser.wait(20)
            server.shutdown()
            server.server_close()
    found = json.loads(answers[0])
    assert "error" not in found, found["error"]
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["picture"]))).convert("RGBA"))
    return Shot(picture, found["triangles"], found["textures"], found["problems"])
