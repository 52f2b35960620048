"""Runs train_gpt.py on two nodes of torchrun, each in a network namespace of its own: what follows `--` goes to the script.

The namespaces are those that `cargo xtask torch --network` makes: NAME-1 with the address 10.233.78.1 on eth0, NAME-2 with 10.233.78.2.
"""

import argparse
import os
import subprocess
import sys

NETWORK = "10.233.78."
PORT = 29400


def node(number, wish):
    """The torchrun of one node, with one rank."""
    words = ["ip", "netns", "exec", f"{wish.namespaces}-{number}", "torchrun"]
    words += ["--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", str(wish.max_restarts)]
    words += ["--rdzv-backend", "c10d", "--rdzv-id", "squall", "--rdzv-endpoint", f"{NETWORK}1:{PORT}"]
    # No name of this machine leads to the address, so torchrun cannot tell by itself which node holds the store.
    words += ["--rdzv-conf", f"is_host={number == 1}"]
    words += ["--local-addr", f"{NETWORK}{number}", os.path.join(os.path.dirname(os.path.abspath(__file__)), "train_gpt.py")]
    return subprocess.Popen(words + wish.rest, env=dict(os.environ, GLOO_SOCKET_IFNAME="eth0"))


def main():
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--namespaces", required=True)
    parse.add_argument("--max-restarts", type=int, default=3)
    parse.add_argument("rest", nargs="+")
    wish = parse.parse_args()
    nodes = [node(number, wish) for number in (1, 2)]
    sys.exit(max(abs(one.wait()) for one in nodes))


if __name__ == "__main__":
    main()
