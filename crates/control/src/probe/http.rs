//! An HTTP GET answers as it should. Asked directly: no proxy from the environment stands between, and no redirect is followed.

use super::{Probed, seconds};
use squall_model::experiment::HttpProbe;
use std::io::Read;
use std::time::{Duration, Instant};

const WITHIN: Duration = Duration::from_secs(5);
const BODY_MAX: u64 = 1 << 20;

pub(super) fn measure(probe: &HttpProbe) -> Probed {
    let within = probe.within.map_or(WITHIN, |span| span.0);
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(within))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent("squall-probe")
        .build()
        .into();
    let asked = Instant::now();
    let address = redacted(&probe.url);
    match agent.get(&probe.url).call() {
        Ok(response) => judge(probe, response, asked, &address),
        Err(error) => Probed::failed(format!("{address}: {}", reason(&error, within))),
    }
}

fn judge(
    probe: &HttpProbe,
    mut response: ureq::http::Response<ureq::Body>,
    asked: Instant,
    address: &str,
) -> Probed {
    let status = response.status().as_u16();
    let wanted = probe.status.unwrap_or(200);
    let mut body = Vec::new();
    let read = response
        .body_mut()
        .as_reader()
        .take(BODY_MAX)
        .read_to_end(&mut body);
    let took = asked.elapsed();
    let told = |held, rest: &str| {
        let text = format!("{address}: status {status} after {}{rest}", seconds(took));
        Probed::new(held, text, Some(took.as_secs_f64()))
    };
    if status != wanted {
        return told(false, &format!(" ({wanted} expected)"));
    }
    if let Err(error) = read {
        return told(
            false,
            &format!(", then its body broke off ({})", error.kind()),
        );
    }
    match &probe.contains {
        Some(text) if !contains(&body, text.as_bytes()) => {
            told(false, ", without the expected text")
        }
        _ => told(true, ""),
    }
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|window| window == text)
}

/// The address without user, password, query and fragment.
pub(super) fn redacted(url: &str) -> String {
    let cut = url.find(['?', '#']).map_or(url, |end| &url[..end]);
    let (scheme, rest) = cut.split_once("://").unwrap_or(("", cut));
    // A password may hold what ends an address: everything before the last `@` is kept secret.
    let told = rest.rsplit_once('@').map_or(rest, |(_, told)| told);
    match scheme {
        "" => told.to_owned(),
        scheme => format!("{scheme}://{told}"),
    }
}

/// Why there was no answer, without anything of the address.
fn reason(error: &ureq::Error, within: Duration) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("no answer within {}", seconds(within)),
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::HostNotFound => "the name of the host is not known".into(),
        ureq::Error::ConnectionFailed => "the connection was refused".into(),
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => "the address cannot be read".into(),
        ureq::Error::Protocol(_) => "the answer is not HTTP".into(),
        ureq::Error::Rustls(error) => format!("TLS failed: {error}"),
        _ => "the request failed".into(),
    }
}
