"""Codex finishes a tool loop over `pylon api`: a script stands in for the model, everything else is real.

usage: codex_client.py PYLON CODEX VOCABULARY

The script answers /v1/completions behind `pylon api --engine upstream`, with Harmony as a model writes it: it calls `apply_patch`, the
custom tool that Codex offers a model which it knows (`codex_models.json`), looks at the file with a command, and says what it saw. So
the model of this test does what it is to do, and pylon what it always does. No grammar holds a model elsewhere. Therefore Codex's own
request goes to `pylon api` with the demo model, too, which has to call `apply_patch`, and of whose text Codex's grammar makes a patch.
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
import urllib.request

CONFIG = """
model = "gpt-oss-20b"
model_provider = "pylon"
model_catalog_json = "{catalog}"

[model_providers.pylon]
name = "pylon"
base_url = "{url}/v1"
wire_api = "responses"
"""

PATCH = """*** Begin Patch
*** Add File: hello.txt
+hello from a patch
*** End Patch
"""


def call(why, command):
    """A turn that runs a command."""
    arguments = json.dumps({"cmd": command})
    return (
        f"<|channel|>analysis<|message|>{why}<|end|><|start|>assistant<|channel|>commentary to=functions.exec_command "
        f"<|constrain|>json<|message|>{arguments}<|call|>"
    )


TURNS = [
    "<|channel|>analysis<|message|>A patch adds the file.<|end|><|start|>assistant<|channel|>commentary "
    f"to=functions.apply_patch<|message|>{PATCH}<|call|>",
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


class Relay(http.server.BaseHTTPRequestHandler):
    """Between Codex and the front: keeps what Codex asks."""

    front, asked = None, []

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append(json.loads(body))
        answer = post(self.front + self.path, body)
        text = answer.read()
        self.send_response(200)
        self.send_header("Content-Type", answer.headers["Content-Type"])
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def post(url, body):
    return urllib.request.urlopen(urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"}))


def serve(handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def start_pylon(program, vocabulary, *options):
    """A server, and where it listens."""
    arguments = ["api", "--bind", "127.0.0.1:0", "--gguf", vocabulary, "--alias", "gpt-oss-20b"]
    process = subprocess.Popen(
        [program, *arguments, *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if found := re.search(r" at (http://[^/]+)/v1", line):
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return process, found[1]
    raise SystemExit("pylon ended without saying where it serves")


def main(pylon, codex, vocabulary):
    front, Relay.front = start_pylon(pylon, vocabulary, "--engine", "upstream", "--upstream", serve(Script))
    url = serve(Relay)
    catalog = pathlib.Path(__file__).parent.resolve() / "codex_models.json"
    try:
        with tempfile.TemporaryDirectory() as folder:
            home, work = pathlib.Path(folder, "home"), pathlib.Path(folder, "work")
            home.mkdir()
            work.mkdir()
            (home / "config.toml").write_text(CONFIG.format(url=url, catalog=catalog))
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
    [tool] = [tool for tool in Relay.asked[0]["tools"] if tool["type"] == "custom"]
    assert tool["name"] == "apply_patch" and tool["format"]["syntax"] == "lark", tool
    results = [item for item in Relay.asked[1]["input"] if item["type"] == "custom_tool_call_output"]
    assert len(results) == 1 and "hello.txt" in json.dumps(results), results
    print("ok   codex: apply_patch is called, a command is run, the answer is said")
    hold(pylon, vocabulary, Relay.asked[0])


def hold(pylon, vocabulary, asked):
    """The demo model, which never saw a patch, writes one: Codex's grammar lets nothing else come."""
    local, url = start_pylon(pylon, vocabulary, "--backend", "cpu", "--max-kv", "16384")
    try:
        forced = {"tool_choice": {"type": "custom", "name": "apply_patch"}, "stream": False}
        limits = {"max_output_tokens": 400, "temperature": 0}
        body = json.dumps({**asked, **forced, **limits}).encode()
        response = json.load(post(f"{url}/v1/responses", body))
    finally:
        local.terminate()
        local.wait()
    [call] = [item for item in response["output"] if item["type"] == "custom_tool_call"]
    begun = r"\*\*\* Begin Patch\n\*\*\* (Add|Delete|Update) File: .+"
    assert call["name"] == "apply_patch" and re.match(begun, call["input"]), response
    print("ok   codex: its grammar of patches holds the demo model")


if __name__ == "__main__":
    main(*sys.argv[1:])
