//! A container engine, asked over its Unix socket in Docker's HTTP API. It is only read: nothing is changed through it, and nothing runs inside a container.
//!
//! HTTP 1.0 on purpose: the engine then answers without chunks and closes, so an answer ends where its bytes end.

use crate::fault::Target;
use crate::sys::process;
use serde::Deserialize;
use serde_json::Value;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where Docker listens unless told otherwise.
const SOCKET: &str = "/run/docker.sock";
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// The longest answer that is read, in bytes: lists of thousands of containers fit.
const ANSWER_MAX: u64 = 16 << 20;

/// Why the engine's word is not known.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nobody answers at the socket.
    #[error("could not ask the container engine at {socket}, because {source}; start it, or name its socket with `engine:`", socket = socket.display())]
    Unreachable {
        /// Where it was asked.
        socket: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It answered something else than what was asked for.
    #[error("could not read the answer of the container engine at {socket}, because {because}", socket = socket.display())]
    Answer {
        /// Where it was asked.
        socket: PathBuf,
        /// What was wrong.
        because: String,
    },
}

/// One running container, as the engine tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its whole id.
    pub id: String,
    /// Its name, without the engine's leading slash.
    pub name: String,
    /// The first process of it, in the engine's pid namespace.
    pub pid: u32,
    /// `bridge`, `host`, `none`, `container:ID`, or a network's name.
    pub network: String,
}

/// What became of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Now {
    /// It runs.
    Running(Container),
    /// The engine knows it, and it does not run: `exited with status 1`, `paused`, …
    Ended(String),
    /// The engine knows none of that name.
    Unknown,
}

/// An engine, by its socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    socket: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    name: String,
    state: State,
    host_config: HostConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    status: String,
    #[serde(default)]
    running: bool,
    #[serde(default)]
    pid: u32,
    #[serde(default)]
    exit_code: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    #[serde(default)]
    network_mode: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    host_config: HostConfig,
}

impl Engine {
    /// The engine at this socket; without one, where `DOCKER_HOST` says (a Unix socket), else Docker's own.
    pub fn at(socket: Option<&str>) -> Engine {
        let told = std::env::var("DOCKER_HOST").ok();
        let socket = socket
            .or_else(|| told.as_deref()?.strip_prefix("unix://"))
            .unwrap_or(SOCKET);
        Engine {
            socket: PathBuf::from(socket),
        }
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What a container of this name or id does now.
    ///
    /// # Errors
    /// When the engine does not answer within 5 s, or says what cannot be read.
    pub fn look(&self, name: &str) -> Result<Now, EngineError> {
        let path = format!("/containers/{}/json", escaped(name));
        let Some(found) = self.get(&path)? else {
            return Ok(Now::Unknown);
        };
        let found: Inspected = self.read(found)?;
        let State {
            status,
            running,
            pid,
            exit_code,
        } = found.state;
        if !running || pid == 0 {
            let status = match status.as_str() {
                "exited" | "dead" => format!("{status} with status {exit_code}"),
                _ => status,
            };
            return Ok(Now::Ended(status));
        }
        Ok(Now::Running(Container {
            id: found.id,
            name: found.name.trim_start_matches('/').to_owned(),
            pid,
            network: found.host_config.network_mode,
        }))
    }

    /// The running containers that carry this label, `KEY` or `KEY=VALUE`, by name.
    ///
    /// # Errors
    /// As [`Engine::look`].
    pub fn labelled(&self, label: &str) -> Result<Vec<Container>, EngineError> {
        let filter = serde_json::json!({ "label": [label] }).to_string();
        let listed = self.list(&format!("?filters={}", escaped(&filter)))?;
        let mut found = Vec::new();
        for one in listed {
            // One that ended since the list was made is none any more.
            if let Now::Running(container) = self.look(&one.id)? {
                found.push(container);
            }
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    /// The names of other running containers in the same network namespace.
    ///
    /// # Errors
    /// As [`Engine::look`].
    pub fn sharing(&self, container: &Container) -> Result<Vec<String>, EngineError> {
        let owner =
            |id: &str, network: &str| network.strip_prefix("container:").unwrap_or(id).to_owned();
        let ours = owner(&container.id, &container.network);
        let others = self.list("")?.into_iter().filter(|one| {
            one.id != container.id && owner(&one.id, &one.host_config.network_mode) == ours
        });
        let mut names: Vec<String> = others
            .filter_map(|one| Some(one.names.first()?.trim_start_matches('/').to_owned()))
            .collect();
        names.sort();
        Ok(names)
    }

    fn list(&self, query: &str) -> Result<Vec<Listed>, EngineError> {
        match self.get(&format!("/containers/json{query}"))? {
            Some(found) => self.read(found),
            None => Err(self.strange("it knows no list of containers")),
        }
    }

    fn read<T: serde::de::DeserializeOwned>(&self, value: Value) -> Result<T, EngineError> {
        serde_json::from_value(value).map_err(|error| self.strange(&error.to_string()))
    }

    fn strange(&self, because: &str) -> EngineError {
        EngineError::Answer {
            socket: self.socket.clone(),
            because: because.to_owned(),
        }
    }

    /// The document at a path; `None` when there is none.
    fn get(&self, path: &str) -> Result<Option<Value>, EngineError> {
        let answer = self.ask(path).map_err(|source| EngineError::Unreachable {
            socket: self.socket.clone(),
            source,
        })?;
        let (status, body) = parted(&answer).ok_or_else(|| self.strange("it is no HTTP"))?;
        match status {
            404 => Ok(None),
            200 => serde_json::from_slice(body)
                .map(Some)
                .map_err(|error| self.strange(&error.to_string())),
            other => Err(self.strange(&format!(
                "it says {other}: {}",
                String::from_utf8_lossy(&body[..body.len().min(200)]).trim()
            ))),
        }
    }

    fn ask(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.socket)?;
        let deadline = Instant::now() + ANSWER;
        stream.set_write_timeout(Some(ANSWER))?;
        write!(
            stream,
            "GET {path} HTTP/1.0\r\nHost: engine\r\nAccept: application/json\r\n\r\n"
        )?;
        let late = || io::Error::new(io::ErrorKind::TimedOut, "it did not answer within 5 s");
        let (mut answer, mut part) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(late());
            }
            stream.set_read_timeout(Some(left))?;
            match stream.read(&mut part) {
                Ok(0) => return Ok(answer),
                Ok(count) => answer.extend_from_slice(&part[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(late()),
                Err(error) => return Err(error),
            }
            if answer.len() as u64 > ANSWER_MAX {
                return Err(io::Error::other("its answer is longer than 16 MiB"));
            }
        }
    }
}

impl Container {
    /// It as a target: its first process, and who shares its network. An error says in words why it cannot be one.
    pub fn target(self, engine: &Engine) -> Result<Target, String> {
        let init = process::identity(self.pid)
            .map_err(|error| error.to_string())?
            .ok_or_else(|| {
                format!(
                    "process {} of the container {} is not to be seen from here; run on the engine's own host",
                    self.pid, self.name
                )
            })?;
        let shares_network_with = engine.sharing(&self).map_err(|error| error.to_string())?;
        // A pid that was reused while it was looked up belongs to another container by now.
        match engine.look(&self.id).map_err(|error| error.to_string())? {
            Now::Running(now) if now.pid == self.pid => Ok(Target::Container {
                engine: engine.socket.clone(),
                id: self.id,
                name: self.name,
                init,
                shares_network_with,
            }),
            _ => Err(format!(
                "the container {} ended while it was looked up",
                self.name
            )),
        }
    }
}

/// Status and body of an answer.
fn parted(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let mut words = head.lines().next()?.split(' ');
    words.next().filter(|word| word.starts_with("HTTP/1."))?;
    Some((words.next()?.parse().ok()?, &answer[end + 4..]))
}

/// Every byte but letters, digits and `-._` as `%XX`.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// Answers each request by its path, until it is dropped with its folder.
    fn served(
        answer: fn(&str) -> (u16, String),
        asks: usize,
    ) -> (PathBuf, std::thread::JoinHandle<()>) {
        let folder = std::env::temp_dir().join(format!("sq-engine-{}-{asks}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let socket = folder.join("sock");
        std::fs::remove_file(&socket).ok();
        let listener = UnixListener::bind(&socket).unwrap();
        let thread = std::thread::spawn(move || {
            for _ in 0..asks {
                let (mut stream, _) = listener.accept().unwrap();
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") {
                    stream.read_exact(&mut byte).unwrap();
                    head.push(byte[0]);
                }
                let head = String::from_utf8(head).unwrap();
                let (status, body) = answer(head.split(' ').nth(1).unwrap());
                write!(stream, "HTTP/1.0 {status} X\r\nA: b\r\n\r\n{body}").unwrap();
            }
        });
        (socket, thread)
    }

    #[test]
    fn a_container_is_found_ended_or_unknown_and_an_error_is_told() {
        let (socket, thread) = served(
            |path| {
                match path {
                "/containers/web/json" => (
                    200,
                    r#"{"Id":"aa","Name":"/web","State":{"Status":"running","Running":true,"Pid":7},"HostConfig":{"NetworkMode":"bridge"}}"#.into(),
                ),
                "/containers/old/json" => (
                    200,
                    r#"{"Id":"bb","Name":"/old","State":{"Status":"exited","Running":false,"Pid":0,"ExitCode":3},"HostConfig":{}}"#.into(),
                ),
                "/containers/json?filters=%7B%22label%22%3A%5B%22a%3Db%22%5D%7D" => (500, "no".into()),
                _ => (404, "{}".into()),
            }
            },
            4,
        );
        let engine = Engine::at(socket.to_str());
        assert_eq!(
            engine.look("web").unwrap(),
            Now::Running(Container {
                id: "aa".into(),
                name: "web".into(),
                pid: 7,
                network: "bridge".into()
            })
        );
        assert_eq!(
            engine.look("old").unwrap(),
            Now::Ended("exited with status 3".into())
        );
        assert_eq!(engine.look("we/b").unwrap(), Now::Unknown);
        let error = engine.labelled("a=b").unwrap_err().to_string();
        assert!(error.contains("500: no"), "{error}");
        thread.join().unwrap();
        let error = Engine::at(Some("/nowhere/sock")).look("web").unwrap_err();
        assert!(error.to_string().contains("name its socket with `engine:`"));
    }

    #[test]
    fn what_shares_a_network_is_named() {
        let (socket, thread) = served(
            |_| {
                (
                    200,
                    r#"[{"Id":"aa","Names":["/web"],"HostConfig":{"NetworkMode":"bridge"}},
                    {"Id":"bb","Names":["/side"],"HostConfig":{"NetworkMode":"container:aa"}},
                    {"Id":"cc","Names":["/other"],"HostConfig":{"NetworkMode":"bridge"}}]"#
                        .into(),
                )
            },
            2,
        );
        let engine = Engine::at(socket.to_str());
        let container = |id: &str, network: &str| Container {
            id: id.into(),
            name: "x".into(),
            pid: 1,
            network: network.into(),
        };
        assert_eq!(
            engine.sharing(&container("aa", "bridge")).unwrap(),
            ["side"]
        );
        assert_eq!(
            engine.sharing(&container("bb", "container:aa")).unwrap(),
            ["web"]
        );
        thread.join().unwrap();
    }
}
