//! Which requests a rule acts on.

use super::*;

#[test]
fn a_rule_acts_on_the_requests_that_fit_and_on_no_other() {
    let mut rule = WebRule::new("it", WebFault::HttpReset {});
    rule.when = When {
        path: Some("/v1/*".into()),
        method: Some("post".into()),
        model: Some("gpt-*".into()),
        streaming: Some(true),
        header: [("host".to_owned(), "x".to_owned())].into(),
        json: [("/user".to_owned(), "7".to_owned())].into(),
        ..When::default()
    };
    let rule = Arc::new(rule);
    let resets = |path: &str, body: Value| {
        let mut talk = talk(Vec::new());
        talk.ends.proxy.set_rules(Vec::new(), vec![rule.clone()]);
        talk.web.changed(0, &mut talk.ends);
        let request = post(path, &body.to_string());
        // In two parts: nothing is sent on before it is decided.
        talk.client(&request[..request.len() - 1]);
        talk.client(&request[request.len() - 1..]);
        let reset = talk.ends.fate == Fate::Resets;
        assert!(reset || talk.asked().into_bytes() == request);
        reset
    };
    let fits = json!({"model": "gpt-4", "stream": true, "user": 7});
    assert!(resets("/v1/x?y", fits.clone()));
    assert!(!resets("/v2/x", fits.clone()));
    for (key, value) in [
        ("model", json!("claude")),
        ("stream", json!(false)),
        ("user", json!(8)),
    ] {
        let mut other = fits.clone();
        other[key] = value;
        assert!(!resets("/v1/x", other), "{key}");
    }
}

#[test]
fn first_and_every_count_the_requests_that_fit() {
    let statuses = |when: When| -> Vec<bool> {
        let mut rule = WebRule::new(
            "it",
            WebFault::HttpStatus {
                code: 500,
                retry_after: None,
                headers: Default::default(),
                body: None,
            },
        );
        rule.when = when;
        let mut talk = talk(vec![rule]);
        let answered = |talk: &mut Talk| {
            talk.client(b"GET / HTTP/1.1\r\n\r\n");
            let ours = talk.got().starts_with("HTTP/1.1 500");
            if !ours {
                talk.server(b"HTTP/1.1 204 No\r\n\r\n");
                talk.got();
            }
            ours
        };
        (0..6).map(|_| answered(&mut talk)).collect()
    };
    assert_eq!(
        statuses(When {
            first: Some(2),
            ..When::default()
        }),
        [true, true, false, false, false, false]
    );
    assert_eq!(
        statuses(When {
            every: Some(3),
            ..When::default()
        }),
        [false, false, true, false, false, true]
    );
}

#[test]
fn draws_follow_connection_and_request() {
    let drawn = |connection: u64| -> Vec<bool> {
        let mut rule = WebRule::new(
            "it",
            WebFault::HttpStatus {
                code: 500,
                retry_after: None,
                headers: Default::default(),
                body: None,
            },
        );
        rule.probability = 0.5;
        let mut talk = talk(vec![rule]);
        talk.web = Web::new(7, connection);
        talk.web.open(0, &mut talk.ends);
        let mut all = Vec::new();
        for _ in 0..40 {
            talk.client(b"GET / HTTP/1.1\r\n\r\n");
            all.push(talk.got().starts_with("HTTP/1.1 500"));
            talk.server(b"HTTP/1.1 204 No\r\n\r\n");
            talk.got();
        }
        all
    };
    assert_eq!(drawn(3), drawn(3));
    assert_ne!(drawn(3), drawn(4));
    assert!(drawn(3).contains(&true) && drawn(3).contains(&false));
}

#[test]
fn only_rules_that_act_are_told() {
    let outcome = |faults: [WebFault; 2]| {
        let rules = faults.map(|fault| WebRule::new(fault.name(), fault));
        let mut talk = talk(rules.into());
        talk.client(b"GET / HTTP/1.1\r\n\r\n");
        let rules = talk.ends.proxy.web_rules();
        let fired = |rule: &Arc<WebRule>| rule.fired.load(std::sync::atomic::Ordering::Relaxed);
        let told: Vec<u64> = rules.iter().map(fired).collect();
        (told, talk.got().chars().take(12).collect::<String>())
    };
    assert_eq!(
        outcome([status(500), WebFault::HttpHang {}]),
        (vec![1, 0], "HTTP/1.1 500".into())
    );
    assert_eq!(
        outcome([WebFault::HttpHang {}, status(500)]),
        (vec![1, 0], String::new())
    );
    assert_eq!(
        outcome([delay(5), WebFault::HttpReset {}]),
        (vec![0, 1], String::new())
    );
}
