//! Whether a part of the kernel is there, found out without making the kernel load it.

use std::io::{BufRead, BufReader};
use std::path::Path;

/// Where a module of the kernel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Module {
    /// Built in, loaded, or in a kernel that loads nothing by itself: asking it changes nothing.
    Askable,
    /// Not loaded. The first request by somebody with rights would load it.
    Loadable,
    /// Not there.
    Absent,
}

/// Where the module `name` is; `symbol` is one of its functions.
pub fn find(name: &str, symbol: &str) -> Module {
    find_below(Path::new("/"), name, symbol)
}

fn find_below(root: &Path, name: &str, symbol: &str) -> Module {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).ok();
    let loader = read("proc/sys/kernel/modprobe");
    let loads = loader.is_some_and(|loader| !loader.trim().is_empty());
    if !loads || root.join("sys/module").join(name).exists() {
        return Module::Askable;
    }
    let release = read("proc/sys/kernel/osrelease").unwrap_or_default();
    let lists = |list: &str| {
        let path = format!("lib/modules/{}/{list}", release.trim());
        has_line(&root.join(path), &|line| {
            line.split([':', ' '])
                .next()
                .and_then(|file| file.rsplit('/').next())
                .and_then(|file| file.split(".ko").next())
                == Some(name)
        })
    };
    let symbols = || {
        has_line(&root.join("proc/kallsyms"), &|line| {
            line.split_ascii_whitespace().nth(2) == Some(symbol)
        })
    };
    if lists("modules.builtin") || symbols() {
        Module::Askable
    } else if lists("modules.dep") {
        Module::Loadable
    } else {
        Module::Absent
    }
}

fn has_line(path: &Path, wanted: &dyn Fn(&str) -> bool) -> bool {
    let Ok(file) = std::fs::File::open(path) else {
        return false;
    };
    let lines = BufReader::with_capacity(1 << 16, file).lines();
    lines.map_while(Result::ok).any(|line| wanted(&line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_found_where_it_is_without_asking_it() {
        let root = std::env::temp_dir().join(format!("squall-module-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let found = || find_below(&root, "nf_tables", "nf_tables_newtable");
        assert_eq!(found(), Module::Askable, "a kernel without modules");
        write("proc/sys/kernel/modprobe", "/sbin/modprobe\n");
        write("proc/sys/kernel/osrelease", "6.1.0\n");
        write("proc/kallsyms", "0 t nf_tables_newtable_x\n");
        assert_eq!(found(), Module::Absent);
        write(
            "lib/modules/6.1.0/modules.dep",
            "kernel/net/netfilter/nf_tables.ko.xz: kernel/net/netfilter/nfnetlink.ko.xz\n",
        );
        assert_eq!(found(), Module::Loadable);
        write(
            "lib/modules/6.1.0/modules.builtin",
            "kernel/net/netfilter/nf_tables.ko\n",
        );
        assert_eq!(found(), Module::Askable);
        write("lib/modules/6.1.0/modules.builtin", "kernel/net/other.ko\n");
        write("proc/kallsyms", "0 t x\n0 t nf_tables_newtable\n");
        assert_eq!(found(), Module::Askable);
        write("proc/kallsyms", "");
        write("sys/module/nf_tables/refcnt", "0\n");
        assert_eq!(found(), Module::Askable);
        std::fs::remove_dir_all(root).unwrap();
    }
}
