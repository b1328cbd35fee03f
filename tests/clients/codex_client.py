"""Codex finishes a tool loop over `pylon api`: a script stands in for the model, everything else is real.

usage: codex_client.py PYLON CODEX VOCABULARY

The script answers /v1/completions behind `pylon api --engine upstream`, with Harmony as a model writes it: it has Codex apply a patch,
looks at the file, and says what it saw. So the model of this test does what it is to do, and pylon what it always does.
"""

import http.server
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading

CONFIG = """
model = "gpt-oss-20b"
model_provider = "pylon"

[model_providers.pylon]
name = "pylon"
base_url = "{url}/v1"
wire_api = "responses"
"""

PATCH = """apply_patch <<'EOF'
*** Begin Patch
*** Add File: hello.txt
+hello from a patch
*** End Patch
EOF"""


def call(why, command):
    """A turn that runs a command."""
    arguments = json.dumps({"cmd": command})
    return (
        f"<|channel|>analysis<|message|>{why}<|end|><|start|>assistant<|channel|>commentary to=functions.exec_command "
        f"<|constrain|>json<|message|>{arguments}<|call|>"
    )


TURNS = [
    call("A patch adds the file.", PATCH),
    call("Is it there?", "cat hello.txt"),
    "<|channel|>analysis<|message|>It is.<|end|><|start|>assistant<|channel|>final<|message|>hello.txt is there.<|return|>",
]


class Script(http.server.BaseHTTPRequestHandler):
    """One turn after the other, in pieces of a few characters."""

    prompts = []

    def log_message(self, *_):
        pass

    def do_GET(self):
        body = json.dumps({"object": "list", "data": [{"id": "script", "object": "model"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        turn = TURNS[len(self.prompts)]
        self.prompts.append(request["prompt"])
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        pieces = [turn[at : at + 7] for at in range(0, len(turn), 7)]
        for text, reason in [(piece, None) for piece in pieces] + [("", "stop")]:
            choice = {"index": 0, "text": text, "finish_reason": reason}
            event = json.dumps({"object": "text_completion", "choices": [choice]})
            self.wfile.write(f"data: {event}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")


def start_pylon(program, vocabulary, upstream):
    """A front of the script, and where it listens."""
    arguments = ["api", "--bind", "127.0.0.1:0", "--engine", "upstream", "--upstream", upstream, "--gguf", vocabulary]
    process = subprocess.Popen(
        [program, *arguments, "--alias", "gpt-oss-20b"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if found := re.search(r" at (http://[^/]+)/v1", line):
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return process, found[1]
    raise SystemExit("pylon ended without saying where it serves")


def main(pylon, codex, vocabulary):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Script)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    front, url = start_pylon(pylon, vocabulary, f"http://127.0.0.1:{server.server_port}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            home, work = pathlib.Path(folder, "home"), pathlib.Path(folder, "work")
            home.mkdir()
            work.mkdir()
            (home / "config.toml").write_text(CONFIG.format(url=url))
            # The commands are those of the script above, and need no sandbox.
            flags = ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
            done = subprocess.run(
                [codex, "exec", *flags, "Write hello.txt."],
                cwd=work,
                env={**os.environ, "CODEX_HOME": str(home)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=120,
            )
            said = done.stdout + done.stderr
            assert done.returncode == 0, said
            assert (work / "hello.txt").read_text() == "hello from a patch\n", said
            assert "hello.txt is there." in done.stdout, said
    finally:
        front.terminate()
        front.wait()
    assert len(Script.prompts) == len(TURNS), f"{len(Script.prompts)} turns"
    # Each prompt goes on from the one before, with the turn that the model wrote and what came of it.
    assert len(Script.prompts[0]) < len(Script.prompts[1]) < len(Script.prompts[2])
    print("ok   codex: a patch is applied, a command is run, the answer is said")


if __name__ == "__main__":
    main(*sys.argv[1:])
