//! What happens when: timing of the method, probes and expectations.

use super::{AT, Case, EXPECT, FAULT, PROBE, TITLE, TRAINING, case};

pub(super) const CASES: &[Case] = &[
    // Timing
    case(
        "duration-missing",
        FAULT,
        "process-pause: {target: {name: second}}",
        "process-pause: {target: {name: second}, for: 30s}",
    ),
    case("duration-forbidden", AT, "at: {time: 10s}, for: 5s", AT),
    case(
        "timing-conflict",
        AT,
        "at: {time: 10s}, every: {epochs: 10}",
        "every: {epochs: 10}",
    ),
    case(
        "timing-conflict",
        AT,
        "at: {time: 10s, step: 4}",
        "at: {step: 4}",
    ),
    case(
        "timing-conflict",
        AT,
        "at: {time: 10s, phase: forward}",
        "at: {step: 10, phase: forward}",
    ),
    case("moment-none", AT, "at: {}", "at: {phase: exit}"),
    case(
        "moment-none",
        AT,
        "every: {phase: forward}",
        "every: {phase: forward, steps: 5}",
    ),
    case("zero-value", AT, "every: {epochs: 0}", "every: {epochs: 1}"),
    case(
        "unknown-phase",
        AT,
        "at: {step: 5, phase: foward}",
        "at: {step: 5, phase: forward}",
    ),
    case(
        "needs-training",
        "training: {run: train --epochs 40, reference: true}",
        "process: {run: train}",
        TRAINING,
    ),
    case(
        "never-acts",
        AT,
        "every: {epochs: 10}, probability: 0%",
        "every: {epochs: 10}, probability: 10%",
    ),
    case(
        "never-acts",
        "reference: true}\ntargets:\n  second: {rank: 1}\n  all-data: {file: '{out}/*.bin'}\nsteady-state:\n  - probe: {training-event: {every: epoch, within: 30s}}\nmethod:\n  - process-kill: {target: {name: second}, at: {time: 10s}}",
        "epochs: 40}\nmethod:\n  - process-kill: {target: {rank: 0}, at: {epoch: 41}}",
        "epochs: 40}\nmethod:\n  - process-kill: {target: {rank: 0}, at: {epoch: 39}}",
    ),
    case(
        "nothing-repeated",
        AT,
        "at: {time: 10s}, times: 3",
        "every: {time: 10s}, times: 3",
    ),
    case(
        "nothing-repeated",
        AT,
        "at: {time: 10s}, on-replay: true",
        "at: {step: 10}, on-replay: true",
    ),
    case(
        "unknown-injection",
        AT,
        "after: {injection: first}",
        "name: first",
    ),
    case(
        "cycle",
        AT,
        "name: first, after: {injection: first}",
        "name: first",
    ),
    case(
        "cycle",
        FAULT,
        "parallel:\n    - process-kill: {name: a, target: {rank: 0}, after: {injection: b}}\n    - process-kill: {name: b, target: {rank: 1}, after: {injection: a}}",
        "parallel:\n    - process-kill: {name: a, target: {rank: 0}, at: {time: 1s}}\n    - process-kill: {name: b, target: {rank: 1}, after: {injection: a}}",
    ),
    case(
        "never-acts",
        FAULT,
        "process-kill: {target: {rank: 0}, after: {injection: b}}\n  - process-kill: {name: b, target: {rank: 1}}",
        "process-kill: {name: b, target: {rank: 1}}\n  - process-kill: {target: {rank: 0}, after: {injection: b}}",
    ),
    case(
        "duplicate-name",
        FAULT,
        "process-kill: {name: a, target: {rank: 0}}\n  - process-kill: {name: a, target: {rank: 1}}",
        "process-kill: {name: a, target: {rank: 0}}\n  - process-kill: {name: b, target: {rank: 1}}",
    ),
    case("impossible-window", "time: 10s", "time: 2h", "time: 10m"),
    case(
        "impossible-window",
        FAULT,
        "process-pause: {target: {rank: 0}, for: 1m, every: {time: 30s}}",
        "process-pause: {target: {rank: 0}, for: 20s, every: {time: 30s}}",
    ),
    case(
        "impossible-window",
        FAULT,
        "wait: 40m\n  - wait: 40m",
        "wait: 20m\n  - wait: 20m",
    ),
    case(
        "empty-method",
        "method:\n  - process-kill: {target: {name: second}, at: {time: 10s}}",
        "method: []",
        "method:\n  - wait: 10s",
    ),
    case(
        "fault-config",
        FAULT,
        "network-partition: {target: {host: true}, peers: [], for: 10s}",
        "network-partition: {target: {host: true}, peers: [10.0.0.7], for: 10s}",
    ),
    // Probes and expectations
    case(
        "bad-url",
        PROBE,
        "http: {url: 127.0.0.1:8080/health}",
        "http: {url: 'http://127.0.0.1:8080/health'}",
    ),
    case(
        "bad-address",
        PROBE,
        "tcp: {address: localhost}",
        "tcp: {address: localhost:8080}",
    ),
    case(
        "bad-digest",
        PROBE,
        "file: {path: '{out}/a', sha256: abc}",
        "file: {path: '{out}/a', sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855}",
    ),
    case(
        "contradiction",
        PROBE,
        "file: {path: '{out}/a', at-least: 2MiB, at-most: 1MiB}",
        "file: {path: '{out}/a', at-least: 1MiB, at-most: 2MiB}",
    ),
    case(
        "contradiction",
        "  - probe: {training-event: {every: epoch, within: 30s}}",
        "  - probe: {log-line: {pattern: ready}}\nabort-when:\n  - probe: {log-line: {pattern: ready, absent: true}}",
        "  - probe: {log-line: {pattern: ready}}\nabort-when:\n  - probe: {log-line: {pattern: panic, absent: true}}",
    ),
    case(
        "impossible-window",
        "within: 30s}}",
        "within: 2s}}\n    interval: 10s",
        "within: 20s}}\n    interval: 10s",
    ),
    case(
        "out-of-range",
        EXPECT,
        "completes: {exit: 300}",
        "completes: {exit: 3}",
    ),
    case(
        "reference-missing",
        "reference: true}\ntargets:\n  second: {rank: 1}\n  all-data: {file: '{out}/*.bin'}\nsteady-state:\n  - probe: {training-event: {every: epoch, within: 30s}}\nmethod:\n  - process-kill: {target: {name: second}, at: {time: 10s}}\nexpect:\n  - recovered-within: 60s",
        "epochs: 4}\nmethod:\n  - wait: 1s\nexpect:\n  - same-result: {as: reference, by: final-parameters}",
        "reference: true}\nmethod:\n  - wait: 1s\nexpect:\n  - same-result: {as: reference, by: final-parameters}",
    ),
    case(
        "request-unknown",
        FAULT,
        "process-pause: {target: {rank: 1}, on-request: true, for: 5s}",
        "process-kill: {target: {rank: 1}, on-request: true}",
    ),
    case(
        "repeats-missing",
        "reference: true}\ntargets:\n  second: {rank: 1}\n  all-data: {file: '{out}/*.bin'}\nsteady-state:\n  - probe: {training-event: {every: epoch, within: 30s}}\nmethod:\n  - process-kill: {target: {name: second}, at: {time: 10s}}\nexpect:\n  - recovered-within: 60s",
        "reference: true}\nmethod:\n  - wait: 1s\nexpect:\n  - same-result: {as: reference, by: trajectory}",
        "references: 3}\nmethod:\n  - wait: 1s\nexpect:\n  - same-result: {as: reference, by: trajectory}",
    ),
    case(
        "steady-state-missing",
        "steady-state:\n  - probe: {training-event: {every: epoch, within: 30s}}\nmethod:\n  - process-kill: {target: {name: second}, at: {time: 10s}}\nexpect:\n  - recovered-within: 60s",
        "method:\n  - wait: 1s\nexpect:\n  - steady-again-within: 10s",
        "steady-state:\n  - probe: {tcp: {address: 'localhost:80'}}\nmethod:\n  - wait: 1s\nexpect:\n  - steady-again-within: 10s",
    ),
    case("empty-text", TITLE, "title: ''", TITLE),
];
