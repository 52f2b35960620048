//! What a snapshot looks at, where the host has more than can or should be compared.

use std::path::PathBuf;

/// What to look at beyond what is always read.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Files and folders whose content and attributes are compared, folders with all below them.
    pub files: Vec<PathBuf>,
    /// Beginnings of environment entries that mark a process as ours, such as `SQUALL_RUN=`.
    pub process_marks: Vec<String>,
    /// Names of programs that are ours, by command or executable.
    pub process_names: Vec<String>,
    /// Processes whose state and settings are compared.
    pub pids: Vec<u32>,
    /// Processes whose descendants all count as strays.
    pub descendants_of: Vec<u32>,
    /// Whether every process of this user is looked at for stops and tracers, or only `pids`.
    pub all_processes: bool,
    /// Cgroup folders to look below; none means every mounted hierarchy.
    pub cgroup_roots: Vec<PathBuf>,
    /// Folders where nothing may be left, such as `/run/squall`.
    pub socket_folders: Vec<PathBuf>,
}

impl Scope {
    /// The whole host, without any file.
    pub fn host() -> Self {
        let mut socket_folders = vec![PathBuf::from("/run/squall")];
        if let Some(runtime) = std::env::var_os("XDG_RUNTIME_DIR") {
            socket_folders.push(PathBuf::from(runtime).join("squall"));
        }
        Self {
            files: Vec::new(),
            process_marks: vec!["SQUALL_RUN=".to_owned()],
            process_names: vec!["squall".to_owned()],
            pids: Vec::new(),
            descendants_of: Vec::new(),
            all_processes: true,
            cgroup_roots: Vec::new(),
            socket_folders,
        }
    }

    /// Only what is named: no process of others, for quick readings.
    pub fn narrow() -> Self {
        Self {
            all_processes: false,
            ..Self::host()
        }
    }

    /// Also watches a file or a folder.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.push(path.into());
        self
    }

    /// Also watches a process.
    pub fn pid(mut self, pid: u32) -> Self {
        self.pids.push(pid);
        self
    }

    /// Counts every descendant of a process as a stray.
    pub fn descendants(mut self, pid: u32) -> Self {
        self.descendants_of.push(pid);
        self
    }

    /// Looks for cgroups below this folder (and the others so named) only.
    pub fn cgroup_root(mut self, path: impl Into<PathBuf>) -> Self {
        self.cgroup_roots.push(path.into());
        self
    }
}
