//! Who may link whom, what the pure crates may depend on, and that every dependency says why it is here.

use std::collections::BTreeSet;

const WORKSPACE: &str = include_str!("../../Cargo.toml");

/// A crate, its manifest, the crates of ours it may link, and for a pure one all others it may link.
struct Crate {
    name: &'static str,
    manifest: &'static str,
    ours: &'static [&'static str],
    others: Option<&'static [&'static str]>,
}

const CRATES: &[Crate] = &[
    Crate {
        name: "model",
        manifest: include_str!("../../crates/model/Cargo.toml"),
        ours: &[],
        // Each parses, prints or hashes what it is given; none opens, asks or waits.
        others: Some(&[
            "regex",
            "saphyr-parser",
            "schemars",
            "serde",
            "serde_json",
            "serde_path_to_error",
            "sha2",
            "shell-words",
            "strsim",
            "thiserror",
        ]),
    },
    Crate {
        name: "analysis",
        manifest: include_str!("../../crates/analysis/Cargo.toml"),
        ours: &["squall-model"],
        others: Some(&[
            "askama",
            "jiff",
            "miniz_oxide",
            "schemars",
            "serde",
            "serde_json",
            "sha2",
            "thiserror",
        ]),
    },
    Crate {
        name: "llm",
        manifest: include_str!("../../crates/llm/Cargo.toml"),
        ours: &[],
        others: Some(&["serde_json"]),
    },
    Crate {
        name: "faults",
        manifest: include_str!("../../crates/faults/Cargo.toml"),
        ours: &["squall-model"],
        others: None,
    },
    Crate {
        name: "proxy",
        manifest: include_str!("../../crates/proxy/Cargo.toml"),
        ours: &["squall-llm", "squall-model"],
        others: None,
    },
    Crate {
        name: "catalog",
        manifest: include_str!("../../crates/catalog/Cargo.toml"),
        ours: &["squall-faults", "squall-model", "squall-proxy"],
        others: None,
    },
    Crate {
        name: "control",
        manifest: include_str!("../../crates/control/Cargo.toml"),
        ours: &[
            "squall-analysis",
            "squall-catalog",
            "squall-faults",
            "squall-model",
        ],
        others: None,
    },
];

/// The names in one table of a manifest.
fn table<'a>(manifest: &'a str, head: &str) -> Vec<(&'a str, &'a str)> {
    let lines = manifest.lines().skip_while(|line| *line != head).skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| {
            line.split_once(['.', ' ', '='])
                .map(|(name, _)| (name, line))
        })
        .filter(|(name, _)| !name.is_empty() && !name.starts_with('#'))
        .collect()
}

#[test]
fn arrows_point_one_way_and_pure_crates_link_only_what_is_pure() {
    for one in CRATES {
        let linked = table(one.manifest, "[dependencies]");
        assert!(!linked.is_empty(), "{}", one.name);
        for (name, _) in linked {
            if name.starts_with("squall-") {
                assert!(one.ours.contains(&name), "{} links {name}", one.name);
            } else if let Some(others) = one.others {
                assert!(
                    others.contains(&name),
                    "{} is pure and links {name}: show that it opens, asks and waits for nothing, then list it here",
                    one.name
                );
            }
        }
    }
}

#[test]
fn pure_crates_are_held_to_the_same_disallowed_methods() {
    let listed = |text: &'static str| -> BTreeSet<&'static str> {
        text.lines()
            .filter(|line| line.contains("path = \""))
            .collect()
    };
    let model = listed(include_str!("../../crates/model/clippy.toml"));
    let analysis = listed(include_str!("../../crates/analysis/clippy.toml"));
    let llm = listed(include_str!("../../crates/llm/clippy.toml"));
    assert!(model.len() > 30 && model.is_subset(&analysis) && model == llm);
}

#[test]
fn every_dependency_says_why_it_is_here_and_its_defaults_are_chosen() {
    // Their defaults are what is wanted: each is `std` and nothing that opens a door.
    const WHOLE: &[&str] = &[
        "anyhow",
        "libc",
        "roxmltree",
        "rustix",
        "saphyr-parser",
        "serde",
        "serde_json",
        "serde_path_to_error",
        "sha2",
        "shell-words",
        "strsim",
    ];
    for (name, line) in table(WORKSPACE, "[workspace.dependencies]") {
        if name.starts_with("squall-") {
            continue;
        }
        assert!(line.contains(" # "), "{name} has no reason");
        assert!(
            line.contains("default-features = false") || WHOLE.contains(&name),
            "{name}: write `default-features = false`"
        );
    }
}

#[test]
fn every_crate_of_ours_is_held_to_the_workspace_s_lints() {
    for one in CRATES {
        assert!(
            one.manifest.contains("[lints]\nworkspace = true"),
            "{}",
            one.name
        );
    }
}
