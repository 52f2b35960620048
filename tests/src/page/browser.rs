//! Chromium without a window, spoken to over a pipe by its own protocol (https://chromedevtools.github.io/devtools-protocol/): it opens a
//! page from a file, looks, types, prints. Keys are those of a keyboard, not events that a script made.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// The longest that one answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Standard input and output become the descriptors on which Chromium speaks.
const SPEAK: &str = "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>/dev/null";

/// How a page is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub width: u32,
    pub height: u32,
    pub dark: bool,
    /// Whether the page may run scripts.
    pub scripts: bool,
}

/// A desk and a phone.
pub const DESK: Look = Look {
    width: 1280,
    height: 1000,
    dark: false,
    scripts: true,
};
pub const PHONE: Look = Look {
    width: 390,
    height: 844,
    ..DESK
};

/// A running browser with one page, ended when dropped.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    session: Option<String>,
    count: u64,
    /// Whether the page that is open may run scripts.
    scripts: bool,
    /// What it said unasked since the page was opened.
    said: Vec<Value>,
}

impl Browser {
    /// Starts it with a profile of its own in `scratch`.
    pub fn start(scratch: &Path) -> Result<Browser> {
        let mut child = Command::new("sh")
            .args(["-c", SPEAK, "sh"])
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--hide-scrollbars",
                "--remote-debugging-pipe",
            ])
            .arg(format!(
                "--user-data-dir={}",
                scratch.join("profile").display()
            ))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("could not start chromium")?;
        let to = child.stdin.take().context("no pipe to chromium")?;
        let pipe = child.stdout.take().context("no pipe from chromium")?;
        let (tell, from) = channel();
        std::thread::spawn(move || {
            let mut messages = BufReader::new(pipe).split(0);
            while let Some(Ok(message)) = messages.next() {
                let Ok(value) = serde_json::from_slice(&message) else {
                    continue;
                };
                if tell.send(value).is_err() {
                    return;
                }
            }
        });
        let mut browser = Browser {
            child,
            to,
            from,
            session: None,
            count: 0,
            scripts: true,
            said: Vec::new(),
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}))?;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", attach)?;
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Network", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), json!({}))?;
        }
        Ok(browser)
    }

    /// Asks and waits for the answer.
    pub fn call(&mut self, method: &str, parameters: Value) -> Result<Value> {
        self.count += 1;
        let mut message = json!({"id": self.count, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = serde_json::to_vec(&message)?;
        bytes.push(0);
        self.to.write_all(&bytes)?;
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = self.hear(until).with_context(|| method.to_owned())?;
            if answer["id"] == json!(self.count) {
                ensure!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return Ok(answer["result"].clone());
            }
            self.said.push(answer);
        }
    }

    fn hear(&self, until: Instant) -> Result<Value> {
        let left = until.saturating_duration_since(Instant::now());
        self.from
            .recv_timeout(left)
            .context("chromium did not answer")
    }

    /// Runs `script` at the start of every page that is opened from now on.
    pub fn prepare(&mut self, script: &str) -> Result<()> {
        let source = json!({"source": script});
        self.call("Page.addScriptToEvaluateOnNewDocument", source)?;
        Ok(())
    }

    /// Opens a page and waits until it is loaded and drawn.
    pub fn open(&mut self, address: &str, look: Look) -> Result<()> {
        let scheme = if look.dark { "dark" } else { "light" };
        let size = json!({"width": look.width, "height": look.height, "deviceScaleFactor": 1, "mobile": look.width < 500});
        self.call("Emulation.setDeviceMetricsOverride", size)?;
        let media =
            json!({"features": [{"name": "prefers-color-scheme", "value": scheme}], "media": ""});
        self.call("Emulation.setEmulatedMedia", media)?;
        let off = json!({"value": !look.scripts});
        self.call("Emulation.setScriptExecutionDisabled", off)?;
        // Another part of the same file would not be loaded anew.
        self.go("about:blank")?;
        self.go(address)?;
        self.scripts = look.scripts;
        self.drawn()
    }

    /// Waits until what has changed is on the screen.
    fn drawn(&mut self) -> Result<()> {
        let wait =
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))";
        // Without scripts nothing is called back; asking for a size lays the page out.
        let size = "document.body.offsetHeight";
        self.evaluate(if self.scripts { wait } else { size })?;
        Ok(())
    }

    fn go(&mut self, address: &str) -> Result<()> {
        self.said.clear();
        let gone = self.call("Page.navigate", json!({"url": address}))?;
        ensure!(
            gone["errorText"].is_null(),
            "{address}: {}",
            gone["errorText"]
        );
        let until = Instant::now() + PATIENCE;
        let loaded = |it: &Value| it["method"] == "Page.loadEventFired";
        while !self.said.iter().any(loaded) {
            let said = self.hear(until).with_context(|| address.to_owned())?;
            self.said.push(said);
        }
        Ok(())
    }

    /// What the page asked for since it was opened, itself included.
    pub fn requests(&self) -> Vec<String> {
        let asked = self
            .said
            .iter()
            .filter(|it| it["method"] == "Network.requestWillBeSent");
        asked
            .filter_map(|it| it["params"]["request"]["url"].as_str())
            .map(str::to_owned)
            .collect()
    }

    /// The value of a script in the page; a promise is waited for.
    pub fn evaluate(&mut self, script: &str) -> Result<Value> {
        let ask = json!({"expression": script, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", ask)?;
        if !answer["exceptionDetails"].is_null() {
            bail!(
                "a script failed in the page: {}",
                answer["exceptionDetails"]
            );
        }
        Ok(answer["result"]["value"].clone())
    }

    /// Presses and releases a key, with Shift or without.
    pub fn press(&mut self, key: Key, shift: bool) -> Result<()> {
        let (name, code, text) = key.parts();
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({
                "type": kind, "key": name, "code": name, "windowsVirtualKeyCode": code, "modifiers": if shift { 8 } else { 0 },
            });
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = json!(text);
            }
            self.call("Input.dispatchKeyEvent", event)?;
        }
        self.drawn()
    }

    /// What assistive programs are told: role and name of everything.
    pub fn accessible(&mut self) -> Result<Vec<(String, String)>> {
        let tree = self.call("Accessibility.getFullAXTree", json!({}))?;
        let nodes = tree["nodes"].as_array().cloned().unwrap_or_default();
        let word = |value: &Value| value["value"].as_str().unwrap_or_default().to_owned();
        let told = nodes.iter().filter(|node| node["ignored"] != true);
        Ok(told
            .map(|node| (word(&node["role"]), word(&node["name"])))
            .collect())
    }

    /// A picture of the first screen, as WebP.
    pub fn picture(&mut self, to: &Path) -> Result<()> {
        let shot = json!({"format": "webp", "quality": 80});
        let shot = self.call("Page.captureScreenshot", shot)?;
        std::fs::write(to, decoded(&shot["data"])?)?;
        Ok(())
    }

    /// The page on A4 paper.
    pub fn print(&mut self, to: &Path) -> Result<()> {
        let paper = json!({"paperWidth": 8.27, "paperHeight": 11.69, "preferCSSPageSize": true});
        let pdf = self.call("Page.printToPDF", paper)?;
        std::fs::write(to, decoded(&pdf["data"])?)?;
        Ok(())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.session = None;
        // A browser that does not end when asked is ended.
        let asked = self.call("Browser.close", json!({})).is_ok();
        let until = Instant::now() + Duration::from_secs(10);
        while asked && Instant::now() < until {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Keys that the page answers to.
#[derive(Debug, Clone, Copy)]
pub enum Key {
    Tab,
    Enter,
    Left,
    Right,
    Plus,
    Zero,
}

impl Key {
    /// Name, number on Windows, and what it types.
    fn parts(self) -> (&'static str, u32, &'static str) {
        match self {
            Key::Tab => ("Tab", 9, ""),
            Key::Enter => ("Enter", 13, "\r"),
            Key::Left => ("ArrowLeft", 37, ""),
            Key::Right => ("ArrowRight", 39, ""),
            Key::Plus => ("+", 187, "+"),
            Key::Zero => ("0", 48, "0"),
        }
    }
}

/// Bytes of a text in base 64.
fn decoded(text: &Value) -> Result<Vec<u8>> {
    let text = text.as_str().context("chromium gave no bytes")?;
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut word, mut bits) = (0_u32, 0);
    for c in text.bytes().filter(|c| *c != b'=') {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => bail!("chromium gave bytes that are not base 64"),
        };
        word = word << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits) as u8);
        }
    }
    Ok(bytes)
}
