//! One row per mistake: what a person wrote, the code it must give, and the text after the remedy was applied.

/// A sound experiment; each row replaces one part of it.
pub(crate) const BASE: &str = "\
version: 1
title: the job survives
workload:
  training: {run: train --epochs 40, reference: true}
targets:
  second: {rank: 1}
  all-data: {file: '{out}/*.bin'}
steady-state:
  - probe: {training-event: {every: epoch, within: 30s}}
method:
  - process-kill: {target: {name: second}, at: {time: 10s}}
expect:
  - recovered-within: 60s
";

pub(crate) struct Case {
    pub(crate) code: &'static str,
    /// The part of the base that is replaced.
    pub(crate) part: &'static str,
    pub(crate) broken: &'static str,
    pub(crate) fixed: &'static str,
}

const fn case(
    code: &'static str,
    part: &'static str,
    broken: &'static str,
    fixed: &'static str,
) -> Case {
    Case {
        code,
        part,
        broken,
        fixed,
    }
}

const TITLE: &str = "title: the job survives";
const TRAINING: &str = "training: {run: train --epochs 40, reference: true}";
const TARGET: &str = "second: {rank: 1}";
const PROBE: &str = "training-event: {every: epoch, within: 30s}";
const FAULT: &str = "process-kill: {target: {name: second}, at: {time: 10s}}";
const KEYS: &str = "{target: {name: second}, at: {time: 10s}}";
const AT: &str = "at: {time: 10s}";
const EXPECT: &str = "recovered-within: 60s";

pub(crate) const CASES: &[Case] = &[
    // YAML
    case(
        "yaml-syntax",
        TITLE,
        "title: the job: survives",
        "title: 'the job: survives'",
    ),
    case(
        "yaml-syntax",
        TITLE,
        "title: 'the job survives",
        "title: 'the job survives'",
    ),
    case(
        "yaml-syntax",
        "  second: {rank: 1}",
        "\tsecond: {rank: 1}",
        "  second: {rank: 1}",
    ),
    case("yaml-syntax", AT, "at: {time: 10s", "at: {time: 10s}"),
    case(
        "duplicate-key",
        TITLE,
        "title: the job survives\ntitle: it does",
        "title: the job survives",
    ),
    case("yaml-anchor", TARGET, "second: &second {rank: 1}", TARGET),
    case(
        "yaml-alias",
        FAULT,
        "process-kill: {target: *second}",
        FAULT,
    ),
    case("yaml-tag", TITLE, "title: !!str the job survives", TITLE),
    case(
        "yaml-merge-key",
        TARGET,
        "second: {<<: {}, rank: 1}",
        TARGET,
    ),
    case(
        "yaml-documents",
        EXPECT,
        "recovered-within: 60s\n---\nversion: 1",
        EXPECT,
    ),
    case(
        "yaml-directive",
        "version: 1",
        "%YAML 1.2\n---\nversion: 1",
        "---\nversion: 1",
    ),
    case("key-not-text", TARGET, "second: {[rank]: 1}", TARGET),
    // Structure
    case(
        "unsupported-version",
        "version: 1",
        "version: 2",
        "version: 1",
    ),
    case("unknown-key", TITLE, "tittle: the job survives", TITLE),
    case(
        "unknown-key",
        KEYS,
        "{target: {name: second}, colour: red}",
        "{target: {name: second}}",
    ),
    case(
        "missing-key",
        TITLE,
        "seed: 7",
        "seed: 7\ntitle: the job survives",
    ),
    case(
        "missing-key",
        PROBE,
        "training-event: {every: epoch}",
        PROBE,
    ),
    case("wrong-type", TITLE, "title: 42", "title: \"42\""),
    case(
        "wrong-type",
        "reference: true",
        "reference: yes",
        "reference: true",
    ),
    case("wrong-type", "{name: second}", "second", "{name: second}"),
    case("wrong-type", TARGET, "second: {rank: \"1\"}", TARGET),
    case(
        "unknown-word",
        "every: epoch",
        "every: epoc",
        "every: epoch",
    ),
    case(
        "unknown-fault",
        "process-kill",
        "proces-kill",
        "process-kill",
    ),
    case("unknown-fault", FAULT, "coffee: {}", FAULT),
    case(
        "unknown-probe",
        PROBE,
        "htpp: {url: 'http://127.0.0.1/'}",
        "http: {url: 'http://127.0.0.1/'}",
    ),
    case(
        "unknown-expectation",
        EXPECT,
        "recoverd-within: 60s",
        EXPECT,
    ),
    case(
        "unknown-workload",
        "training: {",
        "trainig: {",
        "training: {",
    ),
    case(
        "one-key",
        FAULT,
        "process-kill:\n    target: {rank: 1}",
        "process-kill:\n      target: {rank: 1}",
    ),
    case("empty-value", EXPECT, "recovered-within:", EXPECT),
    case("empty-value", EXPECT, "completes:", "completes: {}"),
    case("missing-unit", "time: 10s", "time: 10", "time: 10s"),
    case(
        "missing-unit",
        AT,
        "at: {time: 10s}, probability: 0.5",
        "at: {time: 10s}, probability: 50%",
    ),
    case(
        "bad-duration",
        "within: 30s",
        "within: 30 sec",
        "within: 30 s",
    ),
    case(
        "bad-size",
        PROBE,
        "disk-free: {path: ., below: 1Gb}",
        "disk-free: {path: ., below: 1GB}",
    ),
    case(
        "bad-percentage",
        EXPECT,
        "ettr: {at-least: 130%}",
        "ettr: {at-least: 13%}",
    ),
    case(
        "bad-step-count",
        EXPECT,
        "lost-steps: {at-most: 12}",
        "lost-steps: {at-most: 12 steps}",
    ),
    case("out-of-range", TARGET, "second: {rank: -1}", TARGET),
    case(
        "out-of-range",
        TITLE,
        "title: t\nmonitor: {rate: 1000}",
        "title: t\nmonitor: {rate: 100}",
    ),
    // Workload
    case(
        "bad-command",
        "run: train --epochs 40",
        "run: train | tee log",
        "run: sh -c 'train | tee log'",
    ),
    case(
        "bad-command",
        "run: train --epochs 40",
        "run: '\"train --epochs 40'",
        "run: '\"train\" --epochs 40'",
    ),
    case(
        "bad-command",
        "run: train --epochs 40",
        "run: SEED=1 train",
        "run: train, env: {SEED: '1'}",
    ),
    case(
        "bad-command",
        "run: train --epochs 40",
        "run: ' '",
        "run: train",
    ),
    case(
        "bad-environment",
        "reference: true",
        "reference: true, env: {SQUALL_RUN: x}",
        "reference: true, env: {MY_RUN: x}",
    ),
    case(
        "bad-environment",
        "reference: true",
        "reference: true, env: {A-B: x}",
        "reference: true, env: {A_B: x}",
    ),
    case(
        "bad-pattern",
        "reference: true",
        "reference: true, events: [{event: step-end, pattern: '(?P<step>\\d+'}]",
        "reference: true, events: [{event: step-end, pattern: '(?P<step>\\d+)'}]",
    ),
    case(
        "pattern-groups",
        "reference: true",
        "reference: true, events: [{event: step-end, pattern: 'step (\\d+)'}]",
        "reference: true, events: [{event: step-end, pattern: 'step (?P<step>\\d+)'}]",
    ),
    case(
        "pattern-groups",
        "reference: true",
        "reference: true, events: [{event: log, pattern: '(?P<lose>\\d+)'}]",
        "reference: true, events: [{event: log, pattern: '(?P<loss>\\d+)'}]",
    ),
    case(
        "unknown-event",
        "reference: true",
        "reference: true, events: [{event: step-ends, pattern: '(?P<step>\\d+)'}]",
        "reference: true, events: [{event: step-end, pattern: '(?P<step>\\d+)'}]",
    ),
    // Targets
    case(
        "unknown-target",
        "name: second",
        "name: secnd",
        "name: second",
    ),
    case(
        "selector-none",
        TARGET,
        "second: {at-most: 2}",
        "second: {at-most: 2, rank: 1}",
    ),
    case(
        "selector-none",
        TARGET,
        "second: {workload: false}",
        "second: {workload: true}",
    ),
    case(
        "selector-many",
        TARGET,
        "second: {rank: 1, pid: 4711}",
        TARGET,
    ),
    case(
        "at-most-zero",
        TARGET,
        "second: {rank: 1, at-most: 0}",
        TARGET,
    ),
    case("target-chain", TARGET, "second: {name: all-data}", TARGET),
    case(
        "too-broad",
        TARGET,
        "second: {command: '.*'}",
        "second: {command: 'train\\.py'}",
    ),
    case(
        "bad-path",
        "'{out}/*.bin'",
        "'{out}/*/last.bin'",
        "'{out}/run/*.bin'",
    ),
    case("target-missing", KEYS, "{at: {time: 10s}}", KEYS),
    case(
        "target-kind",
        "name: second",
        "name: all-data",
        "name: second",
    ),
    case(
        "target-kind",
        FAULT,
        "process-pause: {target: {host: true}, for: 10s}",
        "process-pause: {target: {rank: 0}, for: 10s}",
    ),
    case(
        "needs-workload",
        "workload:\n  training: {run: train --epochs 40, reference: true}\n",
        "",
        "workload:\n  training: {run: train}\n",
    ),
    case(
        "out-without-workload",
        "workload:\n  training: {run: train --epochs 40, reference: true}\n",
        "",
        "workload:\n  training: {run: train}\n",
    ),
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
