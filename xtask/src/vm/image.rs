//! What the guest boots: a kernel of Debian's, unpacked and not installed, and an initramfs with test programs and the tools they call.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The flavour that is small and has all that is tested; the meta package leads to the newest.
const KERNEL: &str = "linux-image-cloud-amd64";
/// Programs that tests and faults call, with the libraries that they name.
const TOOLS: &[&str] = &[
    "ip",
    "tc",
    "nft",
    "xtables-legacy-multi",
    "dmsetup",
    "blockdev",
    "losetup",
    "unshare",
    "nsenter",
    "mount",
    "find",
    "setpriv",
];
/// Names under which one program is several.
const NAMES: &[(&str, &str)] = &[
    ("iptables-legacy", "xtables-legacy-multi"),
    ("iptables-legacy-save", "xtables-legacy-multi"),
    ("ip6tables-legacy", "xtables-legacy-multi"),
    ("ip6tables-legacy-save", "xtables-legacy-multi"),
];
/// Modules are taken from these folders and files, with all that they depend on.
const MODULES: &[&str] = &[
    "kernel/net/",
    "kernel/drivers/md/",
    "kernel/drivers/net/ifb.ko",
    "kernel/drivers/net/veth.ko",
    "kernel/drivers/net/dummy.ko",
    "kernel/drivers/block/loop.ko",
    "kernel/lib/",
    "kernel/crypto/crc32c_generic.ko",
];

/// Where downloads are kept: outside of what cargo builds, so that a clean build does not fetch them again.
fn cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME says where downloads are kept")?;
    let folder = base.join("squall").join("vm");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A kernel that was unpacked.
#[derive(Debug)]
pub(super) struct Kernel {
    root: PathBuf,
    release: String,
}

impl Kernel {
    /// Fetches it unless it is there.
    pub(super) fn get() -> Result<Kernel> {
        let cache = cache()?;
        let package = newest()?;
        let root = cache.join(&package);
        if !root.join("whole").is_file() {
            println!("fetching {package}");
            let mut fetch = Command::new("apt-get");
            fetch.args(["download", &package]).current_dir(&cache);
            run(&mut fetch)?;
            let file = fs::read_dir(&cache)?
                .flatten()
                .map(|entry| entry.path())
                .find(|path| {
                    let name = path.file_name().unwrap_or_default().to_string_lossy();
                    name.starts_with(&format!("{package}_"))
                })
                .with_context(|| format!("{package} was not downloaded"))?;
            run(Command::new("dpkg-deb").arg("-x").arg(&file).arg(&root))?;
            fs::remove_file(&file)?;
            let release = release(&root)?;
            run(Command::new("busybox")
                .args(["depmod", "-b"])
                .arg(&root)
                .arg(&release))?;
            fs::write(root.join("whole"), "")?;
        }
        let release = release(&root)?;
        Ok(Kernel { root, release })
    }

    pub(super) fn image(&self) -> PathBuf {
        self.root
            .join("boot")
            .join(format!("vmlinuz-{}", self.release))
    }

    fn modules(&self) -> PathBuf {
        self.root.join("lib/modules").join(&self.release)
    }

    /// The wanted modules and what they need, as paths below [`Kernel::modules`].
    fn wanted(&self) -> Result<BTreeSet<String>> {
        let list = fs::read_to_string(self.modules().join("modules.dep"))?;
        let mut wanted = BTreeSet::new();
        for line in list.lines() {
            let Some((module, needs)) = line.split_once(':') else {
                continue;
            };
            if MODULES.iter().any(|one| module.starts_with(one)) {
                wanted.insert(module.to_owned());
                wanted.extend(needs.split_whitespace().map(str::to_owned));
            }
        }
        ensure!(
            wanted.len() > 100,
            "modules.dep names few modules: {}",
            wanted.len()
        );
        Ok(wanted)
    }
}

/// The package that the meta package depends on.
fn newest() -> Result<String> {
    let output = Command::new("apt-cache")
        .args(["depends", KERNEL])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"))
        .map(|rest| format!("linux-image-{rest}"))
        .with_context(|| format!("apt knows no {KERNEL}; run `apt-get update`"))
}

fn release(root: &Path) -> Result<String> {
    let entry = fs::read_dir(root.join("lib/modules"))?
        .next()
        .context("the package has no modules")??;
    Ok(entry.file_name().to_string_lossy().into_owned())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("could not start {:?}", command.get_program()))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

/// A root for the guest, under construction.
#[derive(Debug)]
pub(super) struct Image {
    root: PathBuf,
}

impl Image {
    /// Tools, libraries, modules; `suite` is the list that the guest's first process reads.
    pub(super) fn build(
        folder: &Path,
        kernel: &Kernel,
        programs: &[PathBuf],
        suite: &str,
    ) -> Result<PathBuf> {
        let root = folder.join("root");
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        let image = Image { root };
        for folder in [
            "proc",
            "sys",
            "dev",
            "tmp",
            "run",
            "root",
            "etc",
            "usr/bin",
            "usr/sbin",
            "usr/lib",
            "usr/lib64",
            "var/lib",
        ] {
            fs::create_dir_all(image.root.join(folder))?;
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{name}"), image.root.join(name))?;
        }
        for file in ["etc/protocols", "etc/services"] {
            if Path::new("/").join(file).is_file() {
                fs::copy(Path::new("/").join(file), image.root.join(file))?;
            }
        }
        fs::write(
            image.root.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\n",
        )?;
        fs::write(image.root.join("etc/group"), "root:x:0:\n")?;
        fs::write(
            image.root.join("etc/hosts"),
            "127.0.0.1 localhost\n::1 localhost\n",
        )?;
        image.add_busybox()?;
        for tool in TOOLS {
            let path = found(tool).with_context(|| format!("there is no {tool} here"))?;
            image.add_program(&path, &Path::new("/usr/sbin").join(tool), false)?;
        }
        for (name, target) in NAMES {
            symlink(target, image.root.join("usr/sbin").join(name))?;
        }
        image.add_folder(Path::new("/usr/lib/x86_64-linux-gnu/xtables"))?;
        for program in programs {
            image.add_program(program, program, true)?;
        }
        image.add_modules(kernel)?;
        fs::write(image.root.join("suite"), suite)?;
        fs::write(image.root.join("init"), include_str!("guest.sh"))?;
        fs::set_permissions(image.root.join("init"), fs::Permissions::from_mode(0o755))?;
        image.pack(folder)
    }

    fn add_busybox(&self) -> Result<()> {
        let busybox = self.root.join("usr/bin/busybox");
        fs::copy(
            found("busybox").context("there is no busybox here")?,
            &busybox,
        )?;
        let list = Command::new(&busybox).arg("--list").output()?;
        for applet in String::from_utf8_lossy(&list.stdout).lines() {
            // The real ones know more.
            if applet != "busybox" && !TOOLS.contains(&applet) {
                symlink("/usr/bin/busybox", self.root.join("usr/bin").join(applet))?;
            }
        }
        // The kernel asks for modules by this path.
        symlink("/usr/bin/busybox", self.root.join("usr/sbin/modprobe"))?;
        Ok(())
    }

    /// A program and the libraries it names. `strip`: without its symbols for debugging, which are most of it.
    fn add_program(&self, from: &Path, to: &Path, strip: bool) -> Result<()> {
        let copy = self.inside(to)?;
        if strip {
            run(Command::new("strip").arg("-o").arg(&copy).arg(from))?;
        } else {
            fs::copy(from, &copy).with_context(|| from.display().to_string())?;
        }
        self.add_libraries(from)
    }

    fn add_libraries(&self, program: &Path) -> Result<()> {
        let output = Command::new("ldd").arg(program).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for library in text.split_whitespace().filter(|word| word.starts_with('/')) {
            let copy = self.inside(Path::new(library))?;
            if !copy.exists() {
                fs::copy(library, &copy).with_context(|| library.to_owned())?;
            }
        }
        Ok(())
    }

    fn add_folder(&self, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_file() {
                fs::copy(&path, self.inside(&path)?)?;
                self.add_libraries(&path)?;
            }
        }
        Ok(())
    }

    fn add_modules(&self, kernel: &Kernel) -> Result<()> {
        let to = self.root.join("usr/lib/modules").join(&kernel.release);
        for module in kernel.wanted()? {
            let copy = to.join(&module);
            fs::create_dir_all(copy.parent().unwrap_or(&to))?;
            fs::copy(kernel.modules().join(&module), copy)?;
        }
        for list in [
            "modules.builtin",
            "modules.builtin.modinfo",
            "modules.order",
        ] {
            fs::copy(kernel.modules().join(list), to.join(list)).ok();
        }
        run(Command::new("busybox")
            .args(["depmod", "-b"])
            .arg(&self.root)
            .arg(&kernel.release))
    }

    /// Where a path of this host's lies in the image; its folder is made.
    fn inside(&self, path: &Path) -> Result<PathBuf> {
        // The folders of the root are links, which a library's path may or may not go through.
        let text = path.to_string_lossy();
        let text = text.trim_start_matches('/');
        let first = text.split('/').next().unwrap_or_default();
        let place = if ["bin", "sbin", "lib", "lib64"].contains(&first) {
            self.root.join("usr").join(text)
        } else {
            self.root.join(text)
        };
        fs::create_dir_all(place.parent().unwrap_or(&self.root))?;
        Ok(place)
    }

    fn pack(&self, folder: &Path) -> Result<PathBuf> {
        let packed = folder.join("initramfs.cpio.gz");
        let line = "find . | cpio --quiet -o -H newc -R 0:0 | gzip -1 > ../initramfs.cpio.gz";
        run(Command::new("sh")
            .args(["-ec", line])
            .current_dir(&self.root))?;
        fs::remove_dir_all(&self.root)?;
        Ok(packed)
    }
}

fn found(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}
