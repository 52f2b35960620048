"""A client with a TLS of its own, for the tests of the proxy's TLS. Says what it saw as one line of JSON.

    python3 tls.py CA HOST:PORT ask            a streamed chat
    python3 tls.py CA HOST:PORT echo TEXT      sends, ends its side, reads to the end
    python3 tls.py CA HOST:PORT broken         how a streamed chat breaks off
    python3 tls.py CA HOST:PORT stop N         N clients that ask and never read, until standard input ends
"""

import json
import socket
import ssl
import sys
import urllib.error
import urllib.request


def connected(context, address):
    host, _, port = address.rpartition(":")
    raw = socket.socket()
    raw.settimeout(120)
    # Little is kept for it by the kernel.
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    raw.connect((host, int(port)))
    return context.wrap_socket(raw, server_hostname=host)


def ask(context, address):
    body = json.dumps({"model": "m", "stream": True, "messages": []}).encode()
    url = f"https://{address}/v1/chat/completions"
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60, context=context) as answer:
            text = answer.read().decode()
            return {"status": answer.status, "text": text}
    except urllib.error.HTTPError as error:
        return {"status": error.code, "text": error.read().decode()}


def echo(context, address, text):
    client = connected(context, address)
    version = client.version()
    client.sendall(text.encode())
    got = b""
    while len(got) < len(text):
        part = client.recv(65536)
        if not part:
            break
        got += part
    # Its own end: the other direction goes on, and ends in order.
    client = client.unwrap()
    return {"version": version, "text": got.decode(errors="replace"), "rest": client.recv(10).decode()}


def broken(context, address):
    """Asks, and reads the socket itself until it ends: the ssl module tells a reset as an end."""
    host, _, port = address.rpartition(":")
    raw = socket.create_connection((host, int(port)), timeout=60)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=host)

    def done(act):
        while True:
            try:
                act()
                return raw.sendall(outgoing.read())
            except ssl.SSLWantReadError:
                raw.sendall(outgoing.read())
                incoming.write(raw.recv(65536))

    done(client.do_handshake)
    body = b'{"stream": true, "messages": []}'
    head = b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body)
    done(lambda: client.write(head + body))
    while raw.recv(65536):
        pass
    return {"ended": True}


def stop(context, address, count):
    clients = [connected(context, address) for _ in range(count)]
    for client in clients:
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}")
    print(json.dumps({"clients": len(clients)}), flush=True)
    sys.stdin.read()
    return {"clients": 0}


def main():
    ca, address, what, *more = sys.argv[1:]
    context = ssl.create_default_context(cafile=ca)
    acts = {"ask": ask, "echo": echo, "broken": broken, "stop": lambda *given: stop(*given[:2], int(given[2]))}
    try:
        told = acts[what](context, address, *more)
    except (OSError, urllib.error.URLError) as error:
        told = {"raised": type(getattr(error, "reason", error)).__name__, "because": str(error)}
    print(json.dumps(told), flush=True)


main()
