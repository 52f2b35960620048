"""Real clients against `squall proxy --mock`: what each does under each fault, against what is expected of it.

Run by `cargo xtask clients`, which makes the environment. Each fault is a rule on a model of its own name, so one proxy
serves all of them; at the end every rule must have landed. Exits 1 when an outcome or a landing differs.
"""

import json
import re
import socket
import subprocess
import sys
import time
import urllib.request

import anthropic
import openai
from toxiproxy import Toxiproxy

TIMEOUT = 2.0  # seconds; the stalls below last longer

# rule name (and model): the fault, what openai does, what anthropic does.
FAULTS = {
    "none": (None, "whole", "whole"),
    "rate-limit-once": ({"http-status": {"code": 429, "retry-after": "0.2"}}, "whole", "whole"),
    "bad-request": ({"http-status": {"code": 400}}, "BadRequestError", "BadRequestError"),
    "overloaded": ({"http-status": {"code": 529}}, "InternalServerError", "OverloadedError"),
    "reset": ({"http-reset": {}}, "APIConnectionError", "APIConnectionError"),
    "slow-token": ({"llm-token-delay": {"delay": "5ms"}}, "whole", "whole"),
    "cut-in-order": ({"llm-cut": {"after": 2}}, "part, nothing raised", "part, nothing raised"),
    "cut-reset": ({"llm-cut": {"after": 2, "how": "reset"}}, "APIConnectionError", "ReadError"),
    "stall": ({"llm-stall": {"after": 2}}, "APITimeoutError", "ReadTimeout"),
    "malformed": ({"llm-malformed": {"at": 2}}, "JSONDecodeError", "JSONDecodeError"),
    "error-in-stream": ({"llm-error": {"after": 2}}, "APIError", "APIStatusError"),
    "without-done": ({"llm-without-done": {}}, "whole", "whole"),
    "no-utf8": ({"llm-malformed": {"at": 2, "how": "utf8"}}, "UnicodeDecodeError", "UnicodeDecodeError"),
    "crlf": ({"llm-framing": {"how": "crlf"}}, "whole", "whole"),
    "bytewise": ({"llm-framing": {"how": "bytewise"}}, "whole", "whole"),
    "no-names": ({"llm-framing": {"how": "no-names"}}, None, "part, nothing raised"),
    "ids": ({"llm-framing": {"how": "ids"}}, "JSONDecodeError", "whole"),
}
WHOLE = "the quick brown fox"


def with_openai(base, model, retries):
    client = openai.OpenAI(base_url=base + "/v1", api_key="none", timeout=TIMEOUT, max_retries=retries)
    messages = [{"role": "user", "content": "x"}]
    stream = client.chat.completions.create(model=model, messages=messages, stream=True, max_tokens=4)
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def with_anthropic(base, model, retries):
    client = anthropic.Anthropic(base_url=base, api_key="none", timeout=TIMEOUT, max_retries=retries)
    messages = [{"role": "user", "content": "x"}]
    events = client.messages.create(model=model, messages=messages, stream=True, max_tokens=4)
    return "".join(event.delta.text for event in events if event.type == "content_block_delta")


def outcome(call, base, name):
    retries = 2 if name == "rate-limit-once" else 0
    try:
        text = call(base, name, retries)
    except Exception as error:  # its type is the outcome
        return type(error).__name__
    return "whole" if text == WHOLE else "part, nothing raised"


def api_call(api, path, body):
    request = urllib.request.Request(f"http://{api}{path}", data=json.dumps(body).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def started():
    command = ["squall", "proxy", "--mock", "--api", "127.0.0.1:0", "--seed", "7"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    said = ""
    for line in process.stderr:
        said += line
        found = re.search(r"api +http://(\S+)[\s\S]*listen +proxy (\S+)", said)
        if found:
            return process, found.group(1), "http://" + found.group(2)
    raise SystemExit(f"squall proxy did not start: {said}")


def sdk_faults(api, base):
    for name, (fault, _, _) in FAULTS.items():
        if fault:
            when = {"model": name, "first": 1} if name == "rate-limit-once" else {"model": name}
            api_call(api, "/squall/proxies/proxy/rules", {"name": name, "when": when, "fault": fault})
    failed = 0
    print(f"{'fault':18}{'openai ' + openai.__version__:26}{'anthropic ' + anthropic.__version__:26}")
    for name, (_, for_openai, for_anthropic) in FAULTS.items():
        cells = []
        for call, expected in ((with_openai, for_openai), (with_anthropic, for_anthropic)):
            if name == "rate-limit-once" and call is with_anthropic:
                # The first request that fits has had its fault: another rule for this client.
                body = {"name": name + "-2", "when": {"model": name, "first": 1}, "fault": FAULTS[name][0]}
                api_call(api, "/squall/proxies/proxy/rules", body)
            seen = outcome(call, base, name) if expected else "not asked"
            right = expected in (None, seen)
            failed += not right
            cells.append(seen if right else f"{seen} ({expected} expected)")
        print(f"{name:18}{cells[0]:26}{cells[1]:26}")
    with urllib.request.urlopen(f"http://{api}/squall", timeout=10) as answer:
        rules = json.load(answer)["rules"]
    for rule in rules:
        if rule["state"] != "landed":
            failed += 1
            print(f"the rule {rule['rule']} did not land")
    return failed


def toxiproxy_client(api):
    """What the Python client of Toxiproxy needs of its server."""
    server = Toxiproxy()
    host, port = api.split(":")
    server.update_api_consumer(host, int(port))
    listener = socket.create_server(("127.0.0.1", 0))
    upstream = f"127.0.0.1:{listener.getsockname()[1]}"
    proxy = server.create(name="py", upstream=upstream, listen="127.0.0.1:0", enabled=True)
    proxy.add_toxic(type="latency", attributes={"latency": 50, "jitter": 0})
    assert proxy.get_toxic("latency_downstream").attributes == {"latency": 50, "jitter": 0}
    start = time.monotonic()
    host, port = proxy.listen.split(":")
    client = socket.create_connection((host, int(port)))
    served, _ = listener.accept()
    served.sendall(b"hello")
    assert client.recv(5) == b"hello" and time.monotonic() - start >= 0.05
    proxy.disable()
    try:
        socket.create_connection((host, int(port)))
        raise AssertionError("it was switched off")
    except ConnectionRefusedError:
        pass
    proxy.enable()
    assert server.get_proxy("py").enabled
    server.reset()
    assert not proxy.toxics()
    server.populate([{"name": "a", "upstream": upstream, "listen": "127.0.0.1:0"}])
    assert {"a", "py"} <= set(server.proxies())
    proxy.destroy()
    assert "py" not in server.proxies()
    print("toxiproxy-python: made, broken, switched, reset, populated, removed")


def main():
    process, api, base = started()
    try:
        failed = sdk_faults(api, base)
        toxiproxy_client(api)
    finally:
        process.terminate()
        process.wait(10)
    if process.returncode != 0:
        print(f"squall proxy ended with {process.returncode}")
        failed += 1
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
