"""What the hook costs a trainer, with a real reader in another process. Prints JSON.

    python3 python/bench/overhead.py [seconds of the 10 ms loop]

A step of the loop is: forward, backward and optimizer-step as phases (begin, hold point, end), and step-end with its
hold point: 7 events and 4 hold points, none of them armed. CPU is this process's own, user and system, less that of the
same loop without the hook.
"""

import json
import os
import platform
import socket
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def agent(path, rest_s=0.0):
    """A child that welcomes, and then reads and rests; holds of another step are armed, so matching is paid for."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(8)
    pid = os.fork()
    if pid:
        listener.close()
        return pid
    arm = [{"id": "h%d" % n, "rank": 0, "phase": "forward", "step": 10**9 + n} for n in range(2)]
    while True:
        peer = listener.accept()[0]
        peer.sendall(json.dumps({"welcome": {"v": 1, "arm": arm}}).encode() + b"\n")
        while peer.recv(1 << 16):
            time.sleep(rest_s)


def each_us(act, count=20000, rounds=9, pause=0.05):
    """Median over rounds of the CPU time of one call, in microseconds."""
    found = []
    for _ in range(rounds):
        start = time.process_time()
        for number in range(count // rounds):
            act(number)
        found.append((time.process_time() - start) / (count // rounds) * 1e6)
        time.sleep(pause)
    return round(sorted(found)[rounds // 2], 2)


def loop_percent(step, seconds):
    """CPU percent of a loop that sleeps to the next 10 ms mark."""
    cpu, start = time.process_time(), time.monotonic()
    number = 0
    while time.monotonic() - start < seconds:
        number += 1
        step(number)
        time.sleep(max(0.0, start + number * 0.01 - time.monotonic()))
    return (time.process_time() - cpu) / (time.monotonic() - start) * 100


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "s")
        pid = agent(path)
        try:
            os.environ.update(SQUALL_HOOK_SOCKET=path, SQUALL_RUN="bench", RANK="0")
            import squall_hook as s
            from squall_hook.connection import hook
            from squall_hook.wire import member

            def step(number):
                for phase in ("forward", "backward", "optimizer-step"):
                    with s.phase(phase, number, 1):
                        pass
                s.step(number, 1, loss=1.2345678)

            def event(number):
                hook.event("step-end", member("step", number) + member("epoch", 1) + member("loss", 1.2345678))

            s.offer("forward", "backward", "optimizer-step", "step-end")
            step(1)
            assert s.connected()
            out = {
                "python": platform.python_version(),
                "cpus": os.cpu_count(),
                "event_us": each_us(event),
                "hold_point_us": each_us(lambda number: hook.hold_point("forward", number, 1)),
                "step_call_us": each_us(lambda number: s.step(number, 1, loss=1.2345678)),
                "whole_step_us": each_us(step),
            }
            bare = loop_percent(lambda number: None, seconds)
            out["cpu_percent_at_10_ms"] = round(loop_percent(step, seconds) - bare, 2)
            out["cpu_percent_bare_loop"] = round(bare, 2)
            out["dropped"] = hook._dropped
            hook.close()
            out["without_agent_step_call_us"] = each_us(lambda number: s.step(number, 1, loss=1.2345678))
            print(json.dumps(out))
        finally:
            os.kill(pid, 9)
            os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
