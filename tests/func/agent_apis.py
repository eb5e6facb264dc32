# SPDX-License-Identifier: Apache-2.0
"""As much of some model APIs as one turn of an agent needs: the model asks for one tool, is told the
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
        self.keys = ()      # values of that header which carry the key

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                body = json.loads(raw) if raw else {}
                api.requests.append((self.command, self.path, body))
                if self.headers.get(api.key_header) not in api.keys:
                    api.refused.append((self.path, dict(self.headers)))
                    return self.answer(401, "application/json", b'{"error":{"type":"authentication'
                                       b'_error","message":"no such key"}}')
                if "Upgrade" in self.headers:  # the client goes on without WebSocket
                    return self.answer(426, "application/json", b'{"error":{"type":"upgrade"}}')
                answer = api.turn(self.path, body)
                if answer is None:
                    return self.answer(404, "application/json", b'{"error":{"type":"not_found_error'
                                       b'","message":"not here"}}')
                if isinstance(answer, dict):
                    return self.answer(200, "application/json", json.dumps(answer).encode())
                text = "".join(("event: %s\n" % e["type"] if "type" in e else "") +
                               "data: %s\n\n" % json.dumps(e) for e in answer)
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
        """The answer: events of a stream, one object, or None when there is no such thing here."""
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
        if any(i.get("type") in ("function_call_output", "custom_tool_call_output")
               for i in body["input"]):
            return self.response({"type": "message", "id": "msg_1", "role": "assistant", "content": [
                {"type": "output_text", "text": "All done."}]})
        tools = set(self.names(body.get("tools", []) + body["input"]))
        if "exec" in tools:  # newer ones: a program that calls what there is
            program = "text(await tools.exec_command(%s))" % json.dumps({"cmd": self.command})
            return self.response({"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_1",
                                  "name": "exec", "input": program})
        args = {"shell_command": {"command": self.command}, "exec_command": {"cmd": self.command},
                "shell": {"command": ["bash", "-lc", self.command]}}
        name = next((n for n in args if n in tools), None)
        assert name, tools
        return self.response({"type": "function_call", "id": "fc_1", "call_id": "call_1",
                              "name": name, "arguments": json.dumps(args[name])})

    def names(self, items):
        for item in items:
            if "tools" in item:
                yield from self.names(item["tools"])
            elif item.get("type") in ("function", "custom"):
                yield item["name"]

    def response(self, item):
        head = {"id": "resp_%d" % len(self.requests), "object": "response"}
        usage = {"input_tokens": 1, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 1,
                 "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 2}
        return [{"type": "response.created", "response": dict(head, status="in_progress")},
                {"type": "response.output_item.added", "output_index": 0, "item": item},
                {"type": "response.output_item.done", "output_index": 0, "item": item},
                {"type": "response.completed", "response": dict(
                    head, status="completed", output=[item], usage=usage)}]


class Gemini(Api):
    """Google's generateContent, streaming or not. tool: (name, arguments) to ask for."""

    def turn(self, path, body):
        method = path.split("?")[0].rpartition(":")[2]
        if method == "countTokens":
            return {"totalTokens": 1}
        if method not in ("generateContent", "streamGenerateContent"):
            return None
        done = any("functionResponse" in p for c in body["contents"] for p in c["parts"])
        tools = {f["name"] for t in body.get("tools", []) for f in t.get("functionDeclarations", [])}
        config = body.get("generationConfig", {})
        schema = config.get("responseJsonSchema", config.get("responseSchema"))
        name, args = self.tool
        if schema:
            part = {"text": json.dumps(example(schema))}
        elif name in tools and not done:
            part = {"functionCall": {"name": name, "args": args}}
        else:
            part = {"text": "All done."}
        answer = {"candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0,
                                  "finishReason": "STOP"}],
                  "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1,
                                    "totalTokenCount": 2}}
        return [answer] if method == "streamGenerateContent" else answer


def example(schema):
    """A value that fits a JSON schema, as far as small schemas go."""
    kind = str(schema.get("type", "")).lower()
    if "enum" in schema:
        return schema["enum"][0]
    if kind == "object":
        return {k: example(s) for k, s in schema.get("properties", {}).items()}
    return {"array": [], "boolean": False, "number": 1, "integer": 1}.get(kind, "text")


class Chat(Api):
    """OpenAI's chat completions, streaming, with the list of models that GitHub has in front of them.
    tool: (name, arguments) to ask for."""

    MODEL = "gpt-5-mini"

    def turn(self, path, body):
        if path == "/models":
            limits = {"max_context_window_tokens": 128000, "max_prompt_tokens": 100000,
                      "max_output_tokens": 16000}
            supports = {"streaming": True, "tool_calls": True, "parallel_tool_calls": True}
            return {"data": [{
                "id": self.MODEL, "name": self.MODEL, "version": self.MODEL, "vendor": "test",
                "object": "model", "preview": False, "model_picker_enabled": True,
                "capabilities": {"family": self.MODEL, "type": "chat", "tokenizer": "o200k_base",
                                 "limits": limits, "supports": supports},
                "policy": {"state": "enabled"}, "supported_endpoints": ["/chat/completions"]}]}
        if path != "/chat/completions":
            return None
        name, args = self.tool
        tools = {t["function"]["name"] for t in body.get("tools", []) if "function" in t}
        if name in tools and not any(m["role"] == "tool" for m in body["messages"]):
            call = {"index": 0, "id": "call_1", "type": "function",
                    "function": {"name": name, "arguments": json.dumps(args)}}
            delta, stop = {"tool_calls": [call]}, "tool_calls"
        else:
            delta, stop = {"content": "All done."}, "stop"
        head = {"id": "chatcmpl-%d" % len(self.requests), "object": "chat.completion.chunk",
                "created": 1, "model": body["model"]}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return [dict(head, choices=[{"index": 0, "delta": dict(delta, role="assistant"),
                                     "finish_reason": None}]),
                dict(head, choices=[{"index": 0, "delta": {}, "finish_reason": stop}], usage=usage)]


class GitHub(Api):
    """Who the user is, for the Copilot CLI."""

    def turn(self, path, body):
        if path != "/copilot_internal/user":
            return None
        return {"login": "agent", "copilot_plan": "individual", "chat_enabled": True,
                "endpoints": {"api": "https://api.githubcopilot.com"}}
