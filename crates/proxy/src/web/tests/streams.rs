//! Faults of the streams of language models.

use super::*;

#[test]
fn first_token_and_further_tokens_are_delayed() {
    let mut talk = with(WebFault::LlmFirstToken { delay: ms(30) });
    assert_eq!(texts(&talk.streamed(&["a", "b"])), [""; 0]);
    talk.at(30 * MS);
    assert!(talk.got().ends_with("0\r\n\r\n"));

    let mut talk = with(WebFault::LlmTokenDelay {
        delay: ms(10),
        jitter: None,
    });
    assert_eq!(texts(&talk.streamed(&["a", "b", "c"])), ["a"]);
    assert_eq!(talk.web.due(), 10 * MS);
    talk.at(19 * MS);
    assert_eq!(talk.got().matches("content\":\"b\"").count(), 1);
    talk.at(20 * MS);
    assert!(talk.got().contains("content\":\"c\""));
    assert_eq!(talk.fired(), 2);
}

#[test]
fn a_stall_stands_until_it_resumes_or_the_rule_goes() {
    let mut talk = with(WebFault::LlmStall {
        after: 1,
        resume: Some(ms(50)),
    });
    assert_eq!(texts(&talk.streamed(&["a", "b"])), ["a"]);
    talk.at(50 * MS);
    assert!(talk.got().contains("content\":\"b\""));

    let mut talk = with(WebFault::LlmStall {
        after: 1,
        resume: None,
    });
    assert_eq!(texts(&talk.streamed(&["a", "b"])), ["a"]);
    talk.at(1_000_000 * MS);
    assert_eq!(talk.got(), "");
    talk.ends.proxy.set_rules(Vec::new(), Vec::new());
    talk.web.changed(talk.now, &mut talk.ends);
    assert!(talk.got().contains("content\":\"b\""));
}

#[test]
fn a_cut_stream_ends_as_asked_after_so_many_tokens() {
    for (how, fate, ends) in [
        (Cut::End, Fate::Closes, true),
        (Cut::Close, Fate::Closes, false),
        (Cut::Reset, Fate::Resets, false),
    ] {
        let mut talk = with(WebFault::LlmCut { after: 2, how });
        let content = talk.streamed(&["a", "b", "c", "d"]);
        assert_eq!(texts(&content), ["a", "b"]);
        assert_eq!(
            (talk.ends.fate, content.ends_with("<end>"), talk.fired()),
            (fate, ends, 1),
            "{how:?}"
        );
    }
    let mut never = with(WebFault::LlmCut {
        after: 9,
        how: Cut::End,
    });
    assert_eq!(texts(&never.streamed(&["a", "b"])), ["a", "b"]);
    assert_eq!(never.fired(), 0);
}

#[test]
fn tokens_are_dropped_doubled_and_put_in_another_order() {
    let order = |fault: WebFault| {
        let mut talk = with(fault);
        let content = talk.streamed(&["a", "b", "c", "d"]);
        assert!(
            content.ends_with("data: [DONE]\n\n<end>") && talk.fired() == 1,
            "{content}"
        );
        texts(&content).concat()
    };
    assert_eq!(order(WebFault::LlmDrop { at: 2 }), "acd");
    assert_eq!(order(WebFault::LlmDuplicate { at: 2 }), "abbcd");
    assert_eq!(order(WebFault::LlmReorder { at: 2 }), "acbd");
    assert_eq!(order(WebFault::LlmReorder { at: 4 }), "abcd");
    // Nothing follows that it could come after: nothing is another, and nothing is told.
    let mut last = with(WebFault::LlmReorder { at: 1 });
    last.chat(true);
    last.server(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
    last.server(token("a").as_bytes());
    last.web.ended(Side::Server, 1, &mut last.ends);
    assert_eq!(texts(&content(last.ends.client.drain())), ["a"]);
    assert_eq!(last.fired(), 0);
    let both = [WebFault::LlmReorder { at: 2 }, WebFault::LlmDrop { at: 2 }];
    let mut both = talk(both.map(|fault| WebRule::new("it", fault)).into());
    assert_eq!(texts(&both.streamed(&["a", "b", "c"])), ["a", "c"]);
    assert_eq!(both.fired(), 1);
}

#[test]
fn the_last_event_is_missing_and_the_body_still_ends_in_order() {
    let content = with(WebFault::LlmWithoutDone {}).streamed(&["a"]);
    assert!(
        !content.contains("[DONE]") && content.contains("stop") && content.ends_with("<end>"),
        "{content}"
    );
}

#[test]
fn a_damaged_token_is_damaged_and_the_others_are_not() {
    for how in [Damage::Json, Damage::Utf8, Damage::NoData] {
        let mut talk = with(WebFault::LlmMalformed { at: 2, how });
        let content = talk.streamed(&["a", "b", "c"]);
        assert_eq!(
            texts(&content).concat().replace('\u{fffd}', ""),
            if how == Damage::Utf8 { "abc" } else { "ac" },
            "{how:?}"
        );
        assert_ne!(
            content,
            with(WebFault::LlmDrop { at: 99 }).streamed(&["a", "b", "c"])
        );
    }
}

#[test]
fn an_error_is_told_in_the_stream() {
    let mut talk = with(WebFault::LlmError { after: 1 });
    let content = talk.streamed(&["a", "b"]);
    assert_eq!(texts(&content), ["a"]);
    assert!(
        content.contains("\"error\":{") && content.ends_with("<end>"),
        "{content}"
    );
}

#[test]
fn framing_is_changed_and_the_events_are_not() {
    let framed = |how: Framing| with(WebFault::LlmFraming { how }).streamed(&["a", "b"]);
    let plain = with(WebFault::LlmDrop { at: 99 }).streamed(&["a", "b"]);
    assert_eq!(framed(Framing::Crlf).replace("\r\n", "\n"), plain);
    assert!(!framed(Framing::Crlf).replace("\r\n", "").contains('\n'));
    assert_eq!(framed(Framing::ByteOrderMark), format!("\u{feff}{plain}"));
    assert!(framed(Framing::Ids).starts_with("id: 1\ndata: "));
    assert_eq!(framed(Framing::Bytewise), plain);
    let mut bytewise = with(WebFault::LlmFraming {
        how: Framing::Bytewise,
    });
    bytewise.chat(true);
    bytewise.server(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
    bytewise.got();
    bytewise.server("data: \u{e9}\n\n".as_bytes());
    assert_eq!(
        bytewise
            .ends
            .client
            .drain()
            .windows(3)
            .filter(|part| part == b"1\r\n")
            .count(),
        10
    );
}

#[test]
fn usage_reason_model_and_text_are_told_otherwise_in_streams_and_in_whole_answers() {
    let whole = json!({"model": "gpt-x", "choices": [{"message": {"content": "one two"}, "finish_reason": "stop"}],
        "usage": {"total_tokens": 4}});
    let answered = |fault: WebFault| -> Value {
        let mut talk = with(fault);
        talk.chat(false);
        let body = whole.to_string();
        talk.server(
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            )
            .as_bytes(),
        );
        talk.server(&body.as_bytes()[..5]);
        assert_eq!(talk.got(), "");
        talk.server(&body.as_bytes()[5..]);
        let answer = talk.got();
        let content = content(&answer);
        assert!(
            answer.contains(&format!("content-length: {}\r\n", content.len())) && talk.fired() == 1,
            "{answer}"
        );
        serde_json::from_str(&content).unwrap()
    };
    let usage = WebFault::LlmUsage {
        says: UsageSays::Negative,
    };
    assert_eq!(answered(usage.clone())["usage"]["total_tokens"], -4);
    assert!(with(usage).streamed(&["a"]).contains("\"total_tokens\":-4"));
    let reason = WebFault::LlmFinishReason {
        value: "length".into(),
    };
    assert_eq!(
        answered(reason.clone())["choices"][0]["finish_reason"],
        "length"
    );
    assert!(
        with(reason)
            .streamed(&["a"])
            .contains("\"finish_reason\":\"length\"")
    );
    let model = WebFault::LlmModel {
        value: "other".into(),
    };
    assert_eq!(answered(model.clone())["model"], "other");
    assert!(with(model).streamed(&["a"]).contains("\"model\":\"other\""));
    let says = |says: Speech| WebFault::LlmText { says };
    assert_eq!(
        answered(says(Speech::Empty))["choices"][0]["message"]["content"],
        ""
    );
    assert_eq!(
        texts(&with(says(Speech::Empty)).streamed(&["a", "b"])),
        [""; 0]
    );
    assert_eq!(
        texts(&with(says(Speech::Repeat)).streamed(&["a", "b", "c"])),
        ["a", "a", "a"]
    );
    assert!(
        texts(&with(says(Speech::Refusal)).streamed(&["a", "b"]))
            .concat()
            .starts_with("I'm sorry")
    );
    assert_eq!(
        texts(&with(says(Speech::Also("canary ".into()))).streamed(&["a", "b"])),
        ["canary a", "b"]
    );
    assert_ne!(
        texts(&with(says(Speech::Garbage)).streamed(&["a", "b"])),
        ["a", "b"]
    );
}

#[test]
fn only_comments_arrive_as_long_as_the_client_stays() {
    let mut talk = with(WebFault::LlmKeepAliveOnly { every: ms(10) });
    assert_eq!(talk.streamed(&["a", "b"]), "");
    for turn in 1..=3 {
        talk.at(turn * 10 * MS);
        assert_eq!(talk.got(), "e\r\n: keep-alive\n\n\r\n", "{turn}");
    }
    // The service has ended long ago.
    talk.web.ended(Side::Server, talk.now, &mut talk.ends);
    talk.at(40 * MS);
    assert!(talk.got().contains("keep-alive"));
    talk.web.ended(Side::Client, talk.now, &mut talk.ends);
    assert_eq!(talk.ends.fate, Fate::Closes);
}
