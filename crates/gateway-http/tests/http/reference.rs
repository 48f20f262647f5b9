//! The examples of the reference, run in order against one replica in memory.

use crate::harness::{Answered, in_memory, send};

const PAGE: &str = include_str!("../../../../docs/reference/http.md");

/// The words of a command line, with quotes taken off.
fn words(line: &str, context: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for character in line.chars() {
        match (quote, character) {
            (None, ' ') => words.push(String::new()),
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), _) if open == character => quote = None,
            _ => words.last_mut().unwrap().push(character),
        }
    }
    words.iter().map(|word| word.replace("$CONTEXT", context)).collect()
}

/// What curl would print.
fn printed(answered: &Answered, with_head: bool) -> String {
    let mut text = String::new();
    if with_head {
        let status = axum::http::StatusCode::from_u16(answered.status).unwrap();
        text.push_str(&format!("HTTP/1.1 {status}\n"));
        for (name, value) in &answered.headers {
            text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
        }
    }
    text.push_str(answered.text());
    // The reference calls its node A.
    text.replace("\"memory\"", "\"A\"").replace("memory:", "A:")
}

/// Whether `text` is `pattern` with something for every `…`.
fn fits(text: &str, pattern: &str) -> bool {
    let mut pieces = pattern.trim_end().split('…');
    let first = pieces.next().unwrap();
    let Some(mut rest) = text.trim_end().strip_prefix(first.trim_end_matches('\n')) else {
        return false;
    };
    let mut last = None;
    for piece in pieces {
        let piece = piece.trim_matches('\n');
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
        last = Some(piece);
    }
    rest.is_empty() || last == Some("")
}

#[tokio::test]
async fn the_examples_of_the_reference_print_what_it_says() {
    let app = in_memory();
    let mut context = String::new();
    let mut run = 0;
    for block in PAGE.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap();
        for example in block.split("$ curl ").skip(1) {
            let (command, expected) = example.split_once('\n').unwrap();
            let (mut method, mut body, mut with_head, mut uri) = (None, None, false, None);
            let mut headers = Vec::new();
            let mut arguments = words(command, &context).into_iter();
            while let Some(argument) = arguments.next() {
                match argument.as_str() {
                    "-X" => method = arguments.next(),
                    "-d" => body = arguments.next(),
                    "-i" => with_head = true,
                    "-H" => headers.push(arguments.next().unwrap()),
                    url => uri = url.strip_prefix("http://127.0.0.1:7380").map(str::to_owned),
                }
            }
            let default = if body.is_some() { "POST" } else { "GET" };
            let headers: Vec<_> =
                headers.iter().map(|header| header.split_once(": ").unwrap()).collect();
            let uri = uri.unwrap_or_else(|| panic!("no address of node 1 in {command}"));
            let method = method.as_deref().unwrap_or(default);
            let answered = send(&app, method, &uri, &headers, body.unwrap_or_default()).await;
            let printed = printed(&answered, with_head);
            assert!(fits(&printed, expected), "$ curl {command}\n{expected}\nprinted:\n{printed}");
            if answered.headers.contains_key("merganser-context") {
                context = answered.context();
            }
            run += 1;
        }
    }
    assert!(run > 20, "only {run} examples found");
}

#[test]
fn a_pattern_fits_only_what_it_describes() {
    assert!(fits("{\"a\":1}\n", "{\"a\":1}\n"));
    assert!(fits("{\"a\":1}\n", "{\"a\":…}\n"));
    assert!(fits("x\ny\nz", "x\n…"));
    assert!(fits("", ""));
    assert!(!fits("{\"a\":1,\"b\":2}\n", "{\"a\":1\n"));
    assert!(!fits("{\"a\":1}", "{\"b\":…}"));
    assert!(!fits("{\"a\":1}x", "{\"a\":…}"));
    assert!(!fits("x", ""));
}
