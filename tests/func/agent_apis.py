# SPDX-License-Identifier: Apache-2.0
"""As much of two model APIs as one turn of an agent needs: the model asks for one tool, is told the
result, and says that it is done."""
import http.server
import json
import threading


class Api(http.server.ThreadingHTTPServer):
    """HTTPS on a fixed address: it is part of the plan, and so of the install cache's key."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, authority, name, address):
        api = self
        self.refused = []   # requests without the key
        self.requests = []  # (method, path, body as JSON)
        self.key_header = None
        self.key = None

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                body = json.loads(raw) if raw else {}
                api.requests.append((self.command, self.path, body))
                if self.headers.get(api.key_header) != api.key:
                    api.refused.append((self.path, dict(self.headers)))
                    return self.answer(401, "application/json", b'{"error":{"type":"authentication'
                                       b'_error","message":"no such key"}}')
                events = api.turn(self.path, body)
                if events is None:
                    return self.answer(404, "application/json", b'{"error":{"type":"not_found_error'
                                       b'","message":"not here"}}')
                text = "".join("event: %s\ndata: %s\n\n" % (e["type"], json.dumps(e)) for e in events)
                self.answer(200, "text/event-stream", text.encode())

            do_GET = do_HEAD = do_POST

            def answer(self, status, kind, body):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *args):
                pass

        super().__init__(address, Handler)
        self.socket = authority.context(name).wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def turn(self, path, body):
        raise NotImplementedError


class Messages(Api):
    """Anthropic's messages API, streaming. tool: (name, input) to ask for."""

    def turn(self, path, body):
        if path.split("?")[0] != "/v1/messages" or not body.get("stream"):
            return None
        parts = [p for m in body["messages"] if isinstance(m["content"], list) for p in m["content"]]
        name, args = self.tool
        if any(p["type"] == "tool_result" for p in parts):
            return self.message(body, {"type": "text", "text": ""},
                                {"type": "text_delta", "text": "All done."}, "end_turn")
        if name in [t["name"] for t in body.get("tools", [])]:
            return self.message(
                body, {"type": "tool_use", "id": "toolu_1", "name": name, "input": {}},
                {"type": "input_json_delta", "partial_json": json.dumps(args)}, "tool_use")
        return self.message(body, {"type": "text", "text": ""},
                            {"type": "text_delta", "text": "Title"}, "end_turn")

    def message(self, body, block, delta, stop):
        usage = {"input_tokens": 1, "output_tokens": 1}
        start = {"id": "msg_%d" % len(self.requests), "type": "message", "role": "assistant",
                 "model": body["model"], "content": [], "stop_reason": None, "stop_sequence": None,
                 "usage": usage}
        return [{"type": "message_start", "message": start},
                {"type": "content_block_start", "index": 0, "content_block": block},
                {"type": "content_block_delta", "index": 0, "delta": delta},
                {"type": "content_block_stop", "index": 0},
                {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None},
                 "usage": {"output_tokens": 1}},
                {"type": "message_stop"}]


class Responses(Api):
    """OpenAI's responses API, streaming. command: a shell command to ask for."""

    def turn(self, path, body):
        if path.split("?")[0] != "/v1/responses" or not body.get("stream"):
            return None
        if any(i.get("type") == "function_call_output" for i in body["input"]):
            return self.response({"type": "message", "id": "msg_1", "role": "assistant", "content": [
                {"type": "output_text", "text": "All done."}]})
        tools = {t.get("name") for t in body["tools"]}
        args = {"shell_command": {"command": self.command}, "exec_command": {"cmd": self.command},
                "shell": {"command": ["bash", "-lc", self.command]}}
        name = next((n for n in args if n in tools), None)
        assert name, tools
        return self.response({"type": "function_call", "id": "fc_1", "call_id": "call_1",
                              "name": name, "arguments": json.dumps(args[name])})

    def response(self, item):
        head = {"id": "resp_%d" % len(self.requests), "object": "response"}
        usage = {"input_tokens": 1, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 1,
                 "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 2}
        return [{"type": "response.created", "response": dict(head, status="in_progress")},
                {"type": "response.output_item.added", "output_index": 0, "item": item},
                {"type": "response.output_item.done", "output_index": 0, "item": item},
                {"type": "response.completed", "response": dict(
                    head, status="completed", output=[item], usage=usage)}]
