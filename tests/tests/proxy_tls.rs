//! TLS on either side of `squall proxy`, spoken by a client whose TLS shares no code with it (Python's, which is OpenSSL).

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use serde_json::Value;
use squall_tests::poll::poll;
use squall_tests::product::{Desk, Live};

const LIMIT: Duration = Duration::from_secs(60);
const CLIENT: &str = include_str!("../src/tls.py");

/// A proxy with TLS towards clients: its address, the certificate they trust, and its log.
struct Proxied {
    live: Live,
    address: String,
    trust: PathBuf,
    log: PathBuf,
}

fn proxied(desk: &Desk, name: &str, keys: &str) -> anyhow::Result<Proxied> {
    let folder = desk.path().join(name);
    let text = format!(
        "version: 1\nseed: 7\nproxies: [{{name: {name}, tls: {{ca: {}}}, {keys}}}]\n",
        folder.display()
    );
    let file = desk.write(&format!("{name}.yaml"), &text)?;
    let log = desk.path().join(format!("{name}.jsonl"));
    let (file, log_path) = (file.to_string_lossy(), log.to_string_lossy().into_owned());
    let live = desk.start(&["proxy", "--no-api", &file, "--log", &log_path])?;
    let after = |words: &str| {
        poll(LIMIT, || {
            let said = live.said();
            let rest = said.split_once(words).map(|(_, rest)| rest.to_owned());
            let word = rest.and_then(|rest| rest.split_whitespace().next().map(str::to_owned));
            Ok(Some(word.with_context(|| said)?))
        })
    };
    let address = after(&format!("listen   {name} "))?;
    let trust = PathBuf::from(after("trust    ")?);
    Ok(Proxied {
        live,
        address,
        trust,
        log,
    })
}

fn client(desk: &Desk, ca: &Path, address: &str, act: &[&str]) -> anyhow::Result<Value> {
    let script = desk.write("tls.py", CLIENT)?;
    let output = Command::new("python3")
        .args([&script, ca])
        .arg(address)
        .args(act)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last();
    let last = last.with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok(serde_json::from_str(last)?)
}

/// Says everything again, and ends when its client does.
fn echo() -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = client.read(&mut buffer) {
                    if client.write_all(&buffer[..count]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(address)
}

const SERVICE: &str = "upstream: \"mock:first-token=1ms,token=1ms,tokens=8\"";

#[test]
fn faults_act_on_what_is_said_inside_tls_on_both_sides() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    let service = proxied(&desk, "service", SERVICE)?;
    let front = |name: &str, rules: &str| {
        let (address, ca) = (&service.address, service.trust.display());
        let keys = format!("upstream: \"https://{address}\", ca: {ca}, rules: [{rules}]");
        proxied(&desk, name, &keys)
    };
    let whole = front("whole", "")?;
    let answer = client(&desk, &whole.trust, &whole.address, &["ask"])?;
    let text = answer["text"].as_str().context("it is text")?;
    ensure!(
        answer["status"] == 200 && text.contains("[DONE]"),
        "{answer}"
    );
    ensure!(text.matches("\"content\"").count() >= 8, "{answer}");

    let changed = front(
        "changed",
        "{fault: {llm-model: {value: other}}}, {fault: {llm-without-done: {}}}",
    )?;
    let answer = client(&desk, &changed.trust, &changed.address, &["ask"])?;
    let text = answer["text"].as_str().context("it is text")?;
    ensure!(
        text.contains("\"model\":\"other\"") && !text.contains("[DONE]"),
        "{answer}"
    );

    let reset = front("reset", "{fault: {llm-cut: {after: 2, how: reset}}}")?;
    let answer = client(&desk, &reset.trust, &reset.address, &["broken"])?;
    ensure!(answer["raised"] == "ConnectionResetError", "{answer}");

    // One that trusts another CA does not go on.
    let foreign = client(&desk, &service.trust, &whole.address, &["ask"])?;
    ensure!(foreign["raised"] == "SSLCertVerificationError", "{foreign}");
    Ok(())
}

#[test]
fn streams_of_bytes_have_their_faults_inside_tls_too_and_end_in_order() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    let upstream = echo()?;
    let service = proxied(&desk, "service", &format!("upstream: \"{upstream}\""))?;
    let (address, ca) = (&service.address, service.trust.display());
    let keys = |rules: &str| format!("upstream: \"tls://{address}\", ca: {ca}, rules: [{rules}]");
    let plain = proxied(&desk, "plain", &keys(""))?;
    let text = "hello, world. ".repeat(20_000);
    let told = client(
        &desk,
        &plain.trust,
        &plain.address,
        &["echo", &text[..100_000]],
    )?;
    ensure!(
        told["version"] == "TLSv1.3" && told["rest"] == "",
        "{}",
        told["version"]
    );
    ensure!(told["text"] == text[..100_000], "it came back otherwise");

    let bad = proxied(
        &desk,
        "bad",
        &keys("{fault: {stream-corrupt: {every: 10B}}}"),
    )?;
    let told = client(&desk, &bad.trust, &bad.address, &["echo", "hello, world"])?;
    let got = told["text"]
        .as_str()
        .context("TLS is whole though its content is not")?;
    ensure!(got.len() >= 12 && got != "hello, world", "{told}");
    Ok(())
}

#[test]
fn a_service_that_is_not_trusted_is_refused_with_a_502_and_words() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    let service = proxied(&desk, "service", SERVICE)?;
    let other = proxied(&desk, "other", SERVICE)?;
    let (address, ca) = (&service.address, service.trust.display());
    let foreign = other.trust.display();
    for (name, keys, words) in [
        ("foreign", format!("ca: {foreign}"), "UnknownIssuer"),
        (
            "misnamed",
            format!("ca: {ca}, server-name: example.org"),
            "not valid for name",
        ),
    ] {
        let front = proxied(
            &desk,
            name,
            &format!("upstream: \"https://{address}\", {keys}"),
        )?;
        let answer = client(&desk, &front.trust, &front.address, &["ask"])?;
        ensure!(answer["status"] == 502, "{name}: {answer}");
        ensure!(
            answer["text"]
                .as_str()
                .is_some_and(|text| text.contains("bad_gateway"))
        );
        front.live.signal(Signal::TERM)?;
        let ended = front.live.wait(LIMIT)?;
        let log = std::fs::read_to_string(&front.log)?;
        ensure!(
            log.contains("its TLS was refused") && log.contains(words),
            "{log}"
        );
        ensure!(ended.err.contains("its TLS was refused"), "{}", ended.err);
    }
    // One that speaks no TLS at all.
    let plain = echo()?;
    let front = proxied(
        &desk,
        "deaf",
        &format!("upstream: \"https://{plain}\", ca: {ca}"),
    )?;
    let answer = client(&desk, &front.trust, &front.address, &["ask"])?;
    ensure!(answer["status"] == 502, "{answer}");
    Ok(())
}

#[test]
fn a_client_without_tls_gets_an_end_in_order() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    let front = proxied(&desk, "front", SERVICE)?;
    let mut client = TcpStream::connect(&front.address)?;
    client.set_read_timeout(Some(LIMIT))?;
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")?;
    let mut got = Vec::new();
    client.read_to_end(&mut got).context("no reset")?;
    // An alert, as TLS has it, and nothing else.
    ensure!(got.len() == 7 && got[0] == 21, "{got:?}");
    front.live.signal(Signal::TERM)?;
    let ended = front.live.wait(LIMIT)?;
    ensure!(ended.code == Some(0), "{}", ended.err);
    let log = std::fs::read_to_string(&front.log)?;
    ensure!(
        log.contains("\"refused\"") && log.contains("a client's TLS was refused"),
        "{log}"
    );
    Ok(())
}

#[test]
fn the_test_ca_is_made_once_and_its_key_is_for_nobody_else() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let front = proxied(&desk, "front", SERVICE)?;
        let answer = client(&desk, &front.trust, &front.address, &["ask"])?;
        ensure!(answer["status"] == 200, "{answer}");
        front.live.signal(Signal::TERM)?;
        let ended = front.live.wait(LIMIT)?;
        let folder = front.trust.parent().context("it has one")?;
        let path = folder.join("squall-test-ca-key.pem");
        let mode =
            |path: &Path| std::fs::metadata(path).map(|found| found.permissions().mode() & 0o777);
        ensure!(mode(&path)? == 0o600 && mode(folder)? == 0o700);
        let key = std::fs::read_to_string(&path)?;
        let secret = key.lines().nth(1).context("it is PEM")?;
        let said = ended.out + &ended.err + &std::fs::read_to_string(&front.log)?;
        ensure!(secret.len() > 40 && !said.contains(secret) && !said.contains("PRIVATE KEY"));
        seen.push((key, std::fs::read_to_string(&front.trust)?));
    }
    ensure!(seen[0] == seen[1], "another CA was made");
    // A file that holds something else is not written over.
    let folder = desk.path().join("other");
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("squall-test-ca-key.pem"), "mine")?;
    let folder = folder.to_string_lossy().into_owned();
    let ended = desk.squall(&["proxy", "--no-api", "--mock", "--tls-ca", &folder])?;
    ensure!(
        ended.code == Some(21) && ended.err.contains("holds no private key of ours"),
        "{}",
        ended.err
    );
    Ok(())
}
