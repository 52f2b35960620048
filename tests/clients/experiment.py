"""The shipped experiment on a real client: `examples/llm` with the openai SDK, its report held against what is known of that SDK.

Run by `cargo xtask clients`, which makes the environment. Exits 1 when anything differs.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

# What the SDK is known to do under each fault, by rule; the rest of the rules is not put to the test.
KNOWN = {
    "retry-after": "held",
    "retry-storm": "held",
    "final-errors": "inconclusive",
    "read-time-out": "inconclusive",
    "fallback": "inconclusive",
    "truncated-stream": "inconclusive",  # a reset is an error to the SDK; what its user is told is not on the wire
}
FAULTS = ["http-status", "llm-cut", "llm-token-delay"]


def report():
    with tempfile.TemporaryDirectory() as state:
        env = dict(os.environ, SQUALL_STATE_DIR=state, PATH=f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}")
        command = ["squall", "run", "--yes", "examples/llm/experiment.yaml"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
        found = list(pathlib.Path(state).glob("runs/*/report.json"))
        if done.returncode != 0 or len(found) != 1:
            raise SystemExit(f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}")
        page = found[0].with_suffix(".html").read_text()
        return json.loads(found[0].read_text()), found[0].with_suffix(".txt").read_text(), page


def main():
    told, text, page = report()
    wrong = []

    def check(right, words):
        if not right:
            wrong.append(words)

    landed = sorted(one["kind"] for one in told["injections"] if one["landed"] == "landed" or one.get("landed_ns"))
    check(landed == FAULTS, f"landed: {landed}")
    clients = told["clients"]
    seen = {one["under"]: one for one in clients["users"]["seen"]}
    check(clients["users"]["lost"] == 0, "records were lost")
    check(sorted(seen) == sorted(FAULTS + ["without a fault"]), f"users saw {sorted(seen)}")
    calm, busy, slow, cut = (seen.get(name, {}) for name in ["without a fault", *FAULTS[:1], FAULTS[2], FAULTS[1]])
    check(calm["failed"]["of"] == 0 and calm["failed"]["all"] > 20, f"without a fault: {calm}")
    check(busy["failed"]["of"] == 0 and busy["retries"] >= busy["failed"]["all"], f"retries hide a busy service: {busy}")
    check(busy["first_token_p50_ns"] > 200e6, f"a user waits for the retry: {busy}")
    check(slow["longest_gap_p50_ns"] > 50e6 > calm["longest_gap_p50_ns"], f"tokens come later: {slow} {calm}")
    check(cut["failed"]["of"] == cut["cut_off"] == cut["failed"]["all"] > 0, f"cut off: {cut}")
    conduct = {one["rule"]: one["conduct"] for one in clients["findings"]}
    for rule, expected in KNOWN.items():
        check(conduct.get(rule) == expected, f"{rule}: {conduct.get(rule)}, {expected} expected")
    check("Users and their clients" in page and "retry-after" in page, "the page does not show it")
    check("users" in text and "clients" in text, "the text does not show it")
    for one in clients["findings"]:
        print(f"{one['rule']:24}{one['conduct']:14}{one['because']}")
    for words in wrong:
        print(f"wrong: {words}")
    return 1 if wrong else 0


sys.exit(main())
