//! What the proxy is compared with: nginx and haproxy as Debian ships them, and a relay with a thread for each connection.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::Relay;
use crate::poll::poll;
use crate::product::Desk;

/// The one line that brings them.
const REMEDY: &str =
    "apt-get install --yes --no-install-recommends nginx-light libnginx-mod-stream haproxy";
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// A port that was free a moment ago: these programs cannot say which they took.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn program(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
}

/// Installs what is missing as root; otherwise says what to type.
pub(super) fn install() -> anyhow::Result<()> {
    let is_there = || {
        program("nginx").is_some()
            && program("haproxy").is_some()
            && Path::new(STREAM_MODULE).is_file()
    };
    if is_there() {
        return Ok(());
    }
    ensure!(
        rustix::process::geteuid().is_root(),
        "nginx or haproxy is missing; type `sudo {REMEDY}`"
    );
    let line = format!("apt-get update && {REMEDY}");
    let status = Command::new("sh")
        .args(["-c", &line])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()?;
    ensure!(
        status.success() && is_there(),
        "nginx and haproxy could not be installed; type `{REMEDY}`"
    );
    Ok(())
}

fn started(mut command: Command, port: u16) -> anyhow::Result<Relay> {
    let child: Child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("start {command:?}"))?;
    let relay = Relay {
        child,
        address: format!("127.0.0.1:{port}"),
    };
    poll(Duration::from_secs(10), || {
        Ok(Some(TcpStream::connect(&relay.address)?))
    })?;
    Ok(relay)
}

/// nginx as a relay of bytes, with a process for each core.
pub(super) fn nginx(desk: &Desk, upstream: &str) -> anyhow::Result<Relay> {
    let port = free_port()?;
    let folder = desk.path().display().to_string();
    let text = format!(
        "load_module {STREAM_MODULE};\nworker_processes 2;\ndaemon off;\nmaster_process on;\npid {folder}/nginx-{port}.pid;\n\
         error_log /dev/null;\nevents {{ worker_connections 4096; }}\n\
         stream {{ server {{ listen 127.0.0.1:{port} backlog=4096; proxy_pass {upstream}; tcp_nodelay on; }} }}\n"
    );
    let file = desk.write(&format!("nginx-{port}.conf"), &text)?;
    let mut command = Command::new(program("nginx").context("nginx")?);
    command.arg("-p").arg(desk.path()).arg("-c").arg(file);
    started(command, port)
}

/// haproxy as a proxy of HTTP, with a thread for each core and its connections kept.
pub(super) fn haproxy(desk: &Desk, upstream: &str) -> anyhow::Result<Relay> {
    let port = free_port()?;
    let text = format!(
        "global\n  nbthread 2\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  \
         option http-keep-alive\nfrontend f\n  bind 127.0.0.1:{port}\n  default_backend b\nbackend b\n  server s {upstream}\n"
    );
    let file = desk.write(&format!("haproxy-{port}.cfg"), &text)?;
    let mut command = Command::new(program("haproxy").context("haproxy")?);
    command.arg("-db").arg("-f").arg(file);
    started(command, port)
}

/// A relay in this process with two threads for each connection: the quickest for several streams of bulk.
pub(super) fn threads(upstream: &str) -> anyhow::Result<String> {
    let upstream = upstream.to_owned();
    super::service(
        move |client| {
            let Ok(server) = TcpStream::connect(&upstream) else {
                return;
            };
            server.set_nodelay(true).ok();
            let pair = (client.try_clone(), server.try_clone());
            let (Ok(from), Ok(to)) = pair else { return };
            std::thread::spawn(move || pumped(from, to));
            pumped(server, client);
        },
        None,
    )
}

fn pumped(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
    to.shutdown(std::net::Shutdown::Write).ok();
}

/// CPU time of a process and all its threads so far, in seconds.
pub(super) fn cpu(relay: &Relay) -> anyhow::Result<f64> {
    let mut all = 0.0;
    for task in std::fs::read_dir(format!("/proc/{}/task", relay.child.id()))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let used = text.split_whitespace().next().context("nanoseconds")?;
        all += used.parse::<f64>()? / 1e9;
    }
    Ok(all)
}
