//! The API, spoken to over HTTP: what Toxiproxy's clients rely on, and what ours does better.
#![expect(clippy::unwrap_used, reason = "a test")]

use serde_json::{Value, json};
use squall_proxy::{Api, Proxies, Recorder, Settings};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

struct Desk {
    api: Api,
    agent: ureq::Agent,
}

fn desk(strict: bool) -> Desk {
    let proxies = Arc::new(Proxies::start(7, 1, Recorder::none()).unwrap());
    let settings = Settings {
        strict,
        token: None,
    };
    let api = Api::start("127.0.0.1:0".parse().unwrap(), settings, proxies).unwrap();
    let agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .new_agent();
    Desk { api, agent }
}

impl Desk {
    fn raw(&self, method: &str, path: &str, body: &str) -> (u16, String, String) {
        let url = format!("http://{}{path}", self.api.address());
        let mut request = ureq::http::Request::builder().method(method).uri(url);
        request = request.header("content-type", "application/json");
        let mut answer = self
            .agent
            .run(request.body(body.to_owned()).unwrap())
            .unwrap();
        let kind = answer
            .headers()
            .get("content-type")
            .map(|value| value.to_str().unwrap().to_owned());
        let text = answer.body_mut().read_to_string().unwrap();
        (answer.status().as_u16(), kind.unwrap_or_default(), text)
    }

    fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let (status, _, text) = self.raw(method, path, &body);
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    fn create(&self, name: &str) -> Value {
        let asked = json!({"name": name, "listen": "localhost:0", "upstream": "localhost:20002"});
        let (status, made) = self.call("POST", "/proxies", asked);
        assert_eq!(status, 201, "{made}");
        made
    }
}

fn error(message: &str, status: u16) -> (u16, Value) {
    (status, json!({"error": message, "status": status}))
}

#[test]
fn proxies_are_made_listed_shown_changed_and_removed() {
    let desk = desk(false);
    assert_eq!(desk.call("GET", "/proxies", Value::Null), (200, json!({})));
    let made = desk.create("redis");
    let listen = made["listen"].as_str().unwrap().to_owned();
    assert!(
        listen.starts_with("127.0.0.1:") || listen.starts_with("[::1]:"),
        "{listen}"
    );
    let whole = json!({"name": "redis", "listen": listen, "upstream": "localhost:20002", "enabled": true, "toxics": []});
    assert_eq!(made, whole);
    assert_eq!(
        desk.call("GET", "/proxies", Value::Null),
        (200, json!({"redis": whole}))
    );
    assert_eq!(
        desk.call("GET", "/proxies/redis", Value::Null),
        (200, whole)
    );
    assert_eq!(
        desk.call("GET", "/proxies/none", Value::Null),
        error("proxy not found", 404)
    );

    let (status, off) = desk.call("PATCH", "/proxies/redis", json!({"enabled": false}));
    assert_eq!(
        (status, &off["enabled"], &off["listen"]),
        (200, &json!(false), &json!(listen))
    );
    assert!(TcpStream::connect(&listen).is_err());
    // The deprecated verb, with nothing but one field: the others stay.
    let (_, on) = desk.call("POST", "/proxies/redis", json!({"enabled": true}));
    assert_eq!(
        (&on["enabled"], &on["listen"]),
        (&json!(true), &json!(listen))
    );
    assert!(TcpStream::connect(&listen).is_ok());
    let (_, moved) = desk.call(
        "PATCH",
        "/proxies/redis",
        json!({"upstream": "localhost:20003"}),
    );
    assert_eq!(
        (&moved["upstream"], &moved["listen"]),
        (&json!("localhost:20003"), &json!(listen))
    );

    assert_eq!(desk.raw("DELETE", "/proxies/redis", "").0, 204);
    assert!(TcpStream::connect(&listen).is_err());
    assert_eq!(
        desk.call("DELETE", "/proxies/redis", Value::Null),
        error("proxy not found", 404)
    );
    assert_eq!(
        desk.call("PATCH", "/proxies/redis", json!({})),
        error("proxy not found", 404)
    );
}

#[test]
fn what_cannot_be_made_is_refused_with_words() {
    let desk = desk(false);
    let post = |body: Value| desk.call("POST", "/proxies", body);
    assert_eq!(
        post(json!({"upstream": "a:1"})),
        error("missing required field: name", 400)
    );
    assert_eq!(
        post(json!({"name": "a"})),
        error("missing required field: upstream", 400)
    );
    let (status, bad) = post(Value::Null);
    assert!(
        status == 400
            && bad["error"]
                .as_str()
                .unwrap()
                .starts_with("bad request body: "),
        "{bad}"
    );
    desk.create("a");
    assert_eq!(
        post(json!({"name": "a", "upstream": "b:1"})),
        error("proxy already exists", 409)
    );
    let taken = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let holder = TcpListener::bind(taken).unwrap();
    let (status, failed) =
        post(json!({"name": "b", "upstream": "b:1", "listen": taken.to_string()}));
    assert!(
        status == 500
            && failed["error"]
                .as_str()
                .unwrap()
                .contains(&taken.to_string()),
        "{failed}"
    );
    drop(holder);
    assert_eq!(desk.call("GET", "/proxies/b", Value::Null).0, 404);
}

#[test]
fn toxics_are_set_merged_and_removed() {
    let desk = desk(false);
    desk.create("p");
    let post = |body: Value| desk.call("POST", "/proxies/p/toxics", body);
    let latency = json!({"type": "latency", "attributes": {"latency": 100, "jitter": 10}});
    let shown = |latency: u64, toxicity: f64| {
        let attributes = json!({"latency": latency, "jitter": 10});
        json!({"attributes": attributes, "name": "latency_downstream", "type": "latency", "stream": "downstream",
               "toxicity": toxicity})
    };
    assert_eq!(post(latency.clone()), (200, shown(100, 1.0)));
    assert_eq!(post(latency), error("toxic already exists", 409));
    let path = "/proxies/p/toxics/latency_downstream";
    assert_eq!(desk.call("GET", path, Value::Null), (200, shown(100, 1.0)));
    let change = json!({"attributes": {"latency": 7}, "toxicity": 0.2, "stream": "upstream"});
    assert_eq!(desk.call("POST", path, change), (200, shown(7, 0.2)));
    assert_eq!(
        desk.call("PATCH", path, json!({"toxicity": 1.0})),
        (200, shown(7, 1.0))
    );

    let up = json!({"name": "up", "type": "slicer", "stream": "UPSTREAM", "toxicity": 0,
                    "attributes": {"average_size": 10, "size_variation": 3, "delay": 50}});
    let (_, up) = post(up);
    assert_eq!(
        (&up["stream"], &up["toxicity"], &up["attributes"]["delay"]),
        (&json!("upstream"), &json!(0.0), &json!(50))
    );
    // Upstream ones come first.
    let (_, all) = desk.call("GET", "/proxies/p/toxics", Value::Null);
    let names: Vec<&str> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|toxic| toxic["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["up", "latency_downstream"]);
    assert_eq!(desk.call("GET", "/proxies/p", Value::Null).1["toxics"], all);

    assert_eq!(desk.raw("DELETE", path, "").0, 204);
    assert_eq!(
        desk.call("DELETE", path, Value::Null),
        error("toxic not found", 404)
    );
    assert_eq!(
        desk.call("GET", path, Value::Null),
        error("toxic not found", 404)
    );
    assert_eq!(
        desk.call("PATCH", path, json!({})),
        error("toxic not found", 404)
    );
    assert_eq!(
        desk.call("GET", "/proxies/q/toxics", Value::Null),
        error("proxy not found", 404)
    );
}

#[test]
fn problems_of_a_toxic_are_told_in_the_order_that_clients_know() {
    let desk = desk(false);
    desk.create("p");
    let post = |body: Value| desk.call("POST", "/proxies/p/toxics", body);
    let stream = "stream was invalid, can be either upstream or downstream";
    assert_eq!(
        post(json!({"type": "x", "stream": "sideways"})),
        error(stream, 400)
    );
    assert_eq!(
        post(json!({"type": "x", "attributes": {"latency": "slow"}})),
        error("invalid toxic type", 400)
    );
    let (status, bad) = post(json!({"type": "latency", "attributes": {"latency": "slow"}}));
    assert!(
        status == 400
            && bad["error"]
                .as_str()
                .unwrap()
                .starts_with("bad request body: "),
        "{bad}"
    );
    let (status, bad) = post(json!({"type": "latency", "toxicity": 1.5}));
    assert!(
        status == 400 && bad["error"].as_str().unwrap().contains("toxicity"),
        "{bad}"
    );
}

#[test]
fn every_kind_of_toxic_can_be_set() {
    let desk = desk(false);
    desk.create("p");
    for (kind, attributes) in [
        ("latency", json!({"latency": 1, "jitter": 2})),
        ("bandwidth", json!({"rate": 3})),
        ("slow_close", json!({"delay": 4})),
        ("timeout", json!({"timeout": 5})),
        ("reset_peer", json!({"timeout": 6})),
        (
            "slicer",
            json!({"average_size": 7, "size_variation": 8, "delay": 9}),
        ),
        ("limit_data", json!({"bytes": 10})),
        ("noop", json!({})),
        ("corrupt", json!({"every": 11})),
        ("half_open", json!({})),
        ("partition", json!({})),
    ] {
        let (status, shown) = desk.call(
            "POST",
            "/proxies/p/toxics",
            json!({"type": kind, "attributes": attributes}),
        );
        assert_eq!(
            (status, &shown["attributes"], &shown["type"]),
            (200, &attributes, &json!(kind))
        );
    }
    assert_eq!(desk.raw("POST", "/reset", "").0, 204);
    assert_eq!(
        desk.call("GET", "/proxies/p/toxics", Value::Null),
        (200, json!([]))
    );
}

#[test]
fn reset_switches_on_and_removes_toxics() {
    let desk = desk(false);
    let made = desk.create("p");
    desk.call("PATCH", "/proxies/p", json!({"enabled": false}));
    desk.call("POST", "/proxies/p/toxics", json!({"type": "noop"}));
    assert_eq!(desk.raw("POST", "/reset", "").0, 204);
    assert_eq!(desk.call("GET", "/proxies/p", Value::Null).1, made);
}

#[test]
fn populate_keeps_what_is_the_same_and_replaces_what_is_not() {
    let desk = desk(false);
    let asked = json!([
        {"name": "a", "listen": "localhost:0", "upstream": "localhost:1"},
        {"name": "b", "listen": "localhost:0", "upstream": "localhost:2", "enabled": false},
    ]);
    let (status, made) = desk.call("POST", "/populate", asked.clone());
    assert_eq!(
        (status, made["proxies"].as_array().unwrap().len()),
        (201, 2)
    );
    assert_eq!(made["proxies"][1]["enabled"], json!(false));
    desk.call("POST", "/proxies/a/toxics", json!({"type": "noop"}));
    let (_, again) = desk.call("POST", "/populate", asked);
    assert_eq!(again["proxies"][0]["listen"], made["proxies"][0]["listen"]);
    assert_eq!(again["proxies"][0]["toxics"].as_array().unwrap().len(), 1);
    let (_, other) = desk.call(
        "POST",
        "/populate",
        json!([{"name": "a", "listen": "localhost:0", "upstream": "localhost:9"}]),
    );
    assert_eq!(
        (
            &other["proxies"][0]["upstream"],
            &other["proxies"][0]["toxics"]
        ),
        (&json!("localhost:9"), &json!([]))
    );
    let (status, failed) = desk.call(
        "POST",
        "/populate",
        json!([{"name": "c", "upstream": "d:1"}, {"upstream": "e:1"}]),
    );
    let message = "missing required field: name at proxy 2";
    assert_eq!(
        (status, failed),
        (
            400,
            json!({"error": message, "status": 400, "proxies": null})
        )
    );
}

/// Toxiproxy forgets `enabled` of a proxy that is there already.
#[test]
fn populate_switches_as_it_is_asked_unless_compatibility_is_strict() {
    for strict in [false, true] {
        let desk = desk(strict);
        let proxy = |enabled: bool| json!([{"name": "a", "listen": "localhost:0", "upstream": "localhost:1", "enabled": enabled}]);
        desk.call("POST", "/populate", proxy(true));
        let (_, again) = desk.call("POST", "/populate", proxy(false));
        assert_eq!(again["proxies"][0]["enabled"], json!(strict));
    }
}

#[test]
fn strict_compatibility_keeps_the_stray_field_and_the_type_of_errors() {
    let (plain, strict) = (desk(false), desk(true));
    assert_eq!(plain.create("p").get("Logger"), None);
    assert_eq!(strict.create("p")["Logger"], json!({}));
    assert_eq!(plain.raw("GET", "/proxies/q", "").1, "application/json");
    assert_eq!(
        strict.raw("GET", "/proxies/q", "").1,
        "text/plain; charset=utf-8"
    );
    let both = json!({"type": "noop", "stream": "both"});
    assert_eq!(plain.call("POST", "/proxies/p/toxics", both.clone()).0, 200);
    assert_eq!(strict.call("POST", "/proxies/p/toxics", both).0, 400);
}

#[test]
fn the_order_of_keys_is_that_of_toxiproxy() {
    let desk = desk(true);
    desk.create("p");
    desk.call("POST", "/proxies/p/toxics", json!({"type": "latency"}));
    let (_, _, text) = desk.raw("GET", "/proxies/p", "");
    let places: Vec<_> = [
        "\"name\":\"p\"",
        "\"listen\"",
        "\"upstream\"",
        "\"enabled\"",
        "\"Logger\"",
        "\"toxics\"",
        "\"attributes\"",
        "\"latency\":0",
        "\"jitter\"",
        "\"name\":\"latency",
        "\"type\"",
        "\"stream\"",
        "\"toxicity\"",
    ]
    .iter()
    .map(|key| text.find(key).unwrap())
    .collect();
    assert!(places.is_sorted(), "{text}");
}

#[test]
fn wrong_verbs_and_paths_are_told_apart() {
    let desk = desk(false);
    desk.create("p");
    assert_eq!(desk.raw("PUT", "/proxies", "").0, 405);
    assert_eq!(desk.raw("GET", "/reset", "").0, 405);
    assert_eq!(
        desk.raw("GET", "/nothing", ""),
        (
            404,
            "text/plain; charset=utf-8".into(),
            "404 page not found\n".into()
        )
    );
    let (status, version) = desk.call("GET", "/version", Value::Null);
    assert!(
        status == 200 && version["version"].as_str().unwrap().starts_with("2."),
        "{version}"
    );
}

/// What the API answers to bytes; the connection is closed by it or after 200 bytes of silence from us.
fn said(desk: &Desk, request: &str) -> String {
    let mut client = TcpStream::connect(desk.api.address()).unwrap();
    client.write_all(request.as_bytes()).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn web_pages_may_not_call() {
    let desk = desk(false);
    for bad in [
        "User-Agent: Mozilla/5.0",
        "Origin: https://evil.example",
        "Host: evil.example",
    ] {
        let answer = said(&desk, &format!("GET /version HTTP/1.1\r\n{bad}\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 403 "), "{bad}: {answer}");
    }
    for good in [
        "Host: localhost:8474",
        "Host: 127.0.0.1",
        "Host: [::1]:8474",
    ] {
        assert!(
            said(&desk, &format!("GET /version HTTP/1.1\r\n{good}\r\n\r\n"))
                .starts_with("HTTP/1.1 200 "),
            "{good}"
        );
    }
}

#[test]
fn off_loopback_a_token_is_needed() {
    let proxies = || Arc::new(Proxies::start(7, 1, Recorder::none()).unwrap());
    let everywhere = "0.0.0.0:0".parse().unwrap();
    assert!(Api::start(everywhere, Settings::default(), proxies()).is_err());
    let settings = Settings {
        strict: false,
        token: Some("s3cret".into()),
    };
    let api = Api::start(everywhere, settings, proxies()).unwrap();
    let url = format!("http://127.0.0.1:{}/version", api.address().port());
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .new_agent();
    let status = |given: Option<&str>| {
        let mut call = agent.get(&url);
        if let Some(token) = given {
            call = call.header("authorization", format!("Bearer {token}"));
        }
        call.call().unwrap().status().as_u16()
    };
    assert_eq!(
        [status(None), status(Some("s3cre")), status(Some("s3cret"))],
        [401, 401, 200]
    );
}

#[test]
fn bodies_that_are_too_long_or_not_all_there_are_refused() {
    let desk = desk(false);
    let long = format!(
        "POST /proxies HTTP/1.1\r\ncontent-length: 2000000\r\n\r\n{}",
        "x".repeat(1_100_000)
    );
    assert!(said(&desk, &long).starts_with("HTTP/1.1 413 "));
    assert!(
        said(
            &desk,
            "POST /proxies HTTP/1.1\r\ncontent-length: 10\r\n\r\n{}"
        )
        .starts_with("HTTP/1.1 400 ")
    );
}

#[test]
fn what_landed_is_told_apart_from_what_is_armed() {
    let desk = desk(false);
    let echo = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = echo.local_addr().unwrap().to_string();
    let asked = json!({"name": "p", "listen": "127.0.0.1:0", "upstream": upstream});
    let (_, made) = desk.call("POST", "/proxies", asked);
    desk.call(
        "POST",
        "/proxies/p/toxics",
        json!({"name": "cut", "type": "limit_data", "attributes": {"bytes": 2}}),
    );
    let state = || desk.call("GET", "/squall", Value::Null).1["rules"][0].clone();
    let rule = |state: &str, fired: u64| {
        json!({"proxy": "p", "rule": "cut", "fault": "limit_data", "way": "downstream",
        "state": state, "fired": fired})
    };
    assert_eq!(state(), rule("armed", 0));
    let mut client = TcpStream::connect(made["listen"].as_str().unwrap()).unwrap();
    let (mut served, _) = echo.accept().unwrap();
    served.write_all(b"hello").unwrap();
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"he");
    assert_eq!(state(), rule("landed", 1));
    let (_, kind, text) = desk.raw("GET", "/metrics", "");
    assert!(kind.starts_with("text/plain"));
    let labels = format!(
        "{{direction=\"downstream\",proxy=\"p\",listener={},upstream=\"{upstream}\"}}",
        made["listen"]
    );
    assert!(
        text.contains(&format!("toxiproxy_proxy_received_bytes_total{labels} 5\n")),
        "{text}"
    );
    assert!(
        text.contains(&format!("toxiproxy_proxy_sent_bytes_total{labels} 2\n")),
        "{text}"
    );
    assert!(
        text.contains("squall_proxy_rule_fired_total{proxy=\"p\",rule=\"cut\"} 1\n"),
        "{text}"
    );
}

#[test]
fn a_rule_is_read_as_strictly_as_a_file() {
    let desk = desk(false);
    desk.create("bytes");
    let web = json!({"name": "web", "upstream": "http://localhost:20002"});
    assert_eq!(desk.call("POST", "/proxies", web).0, 201);
    let status = |fault: Value| json!({"fault": {"http-status": fault}});
    for (proxy, rule) in [
        ("web", status(json!({"code": 42}))),
        (
            "web",
            status(json!({"code": 500, "headers": {"a": "b\r\nc: d"}})),
        ),
        (
            "web",
            status(json!({"code": 500, "retry-after": "1\r\n\r\n"})),
        ),
        (
            "web",
            json!({"fault": {"http-rate-limit": {"per-minute": 0}}}),
        ),
        ("web", json!({"way": "both", "fault": {"http-hang": {}}})),
        (
            "web",
            json!({"when": {"every": 0}, "fault": {"http-hang": {}}}),
        ),
        ("web", json!({"fault": {"stream-partition": {}}})),
        (
            "bytes",
            json!({"fault": {"stream-bandwidth": {"per-second": "0B"}}}),
        ),
        (
            "bytes",
            json!({"when": {"first": 1}, "fault": {"stream-partition": {}}}),
        ),
        ("bytes", json!({"fault": {"http-hang": {}}})),
    ] {
        let path = format!("/squall/proxies/{proxy}/rules");
        let (code, answer) = desk.call("POST", &path, rule.clone());
        assert_eq!(code, 400, "{rule}: {answer}");
        assert!(answer["error"].as_str().unwrap().len() > 30, "{answer}");
    }
    let good = status(json!({"code": 500, "headers": {"a": "b"}, "retry-after": "soon"}));
    let (code, answer) = desk.call("POST", "/squall/proxies/web/rules", good);
    assert_eq!(code, 201, "{answer}");
}
