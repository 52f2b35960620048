//! The hidden commands: other processes of this same program.

use squall_catalog::Faults;
use std::process::ExitCode;

macro_rules! hook_file {
    ($path:literal) => {
        ($path, include_bytes!(concat!("../../../../python/", $path)))
    };
}

/// `squall-hook`, as it is unpacked for Python workloads. A test holds this list against `python/files.txt`.
pub(crate) const HOOK_FILES: &[(&str, &[u8])] = &[
    hook_file!("squall_hook/__init__.py"),
    hook_file!("squall_hook/boot/sitecustomize.py"),
    hook_file!("squall_hook/connection.py"),
    hook_file!("squall_hook/digest.py"),
    hook_file!("squall_hook/exits.py"),
    hook_file!("squall_hook/identity.py"),
    hook_file!("squall_hook/imports.py"),
    hook_file!("squall_hook/link.py"),
    hook_file!("squall_hook/patches.py"),
    hook_file!("squall_hook/progress.py"),
    hook_file!("squall_hook/py.typed"),
    hook_file!("squall_hook/pytorch.py"),
    hook_file!("squall_hook/report.py"),
    hook_file!("squall_hook/requests.py"),
    hook_file!("squall_hook/resume.py"),
    hook_file!("squall_hook/stacks.py"),
    hook_file!("squall_hook/tensors.py"),
    hook_file!("squall_hook/torch_files.py"),
    hook_file!("squall_hook/torch_loop.py"),
    hook_file!("squall_hook/torch_state.py"),
    hook_file!("squall_hook/wire.py"),
];

/// `squall guard OPTIONS`.
pub(crate) fn guard(arguments: &[String]) -> ExitCode {
    squall_faults::guard::main(first(arguments))
}

/// `squall agent OPTIONS`.
pub(crate) fn agent(arguments: &[String]) -> ExitCode {
    squall_faults::agent::main::<Faults>(first(arguments), HOOK_FILES)
}

/// `squall serve-fault KIND`.
pub(crate) fn serve(arguments: &[String]) -> ExitCode {
    squall_faults::serve::main(first(arguments), squall_catalog::served::body)
}

fn first(arguments: &[String]) -> &str {
    arguments.first().map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::HOOK_FILES;

    #[test]
    fn every_file_of_the_hook_is_embedded() {
        let listed: Vec<&str> = include_str!("../../../../python/files.txt")
            .lines()
            .collect();
        let embedded: Vec<&str> = HOOK_FILES.iter().map(|(path, _)| *path).collect();
        assert_eq!(embedded, listed);
    }
}
