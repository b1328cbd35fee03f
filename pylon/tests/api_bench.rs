//! `/bench` over real sockets.

use serde_json::Value;

use super::api::demo;

#[test]
fn a_bench_tells_what_it_measured() {
    let server = demo();
    let (status, _, text) = server.ask("GET", "/bench?n=3&max_new_tokens=5", "", "");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let number =
        |name: &str| report.pointer(name).and_then(Value::as_f64).unwrap_or_else(|| panic!("{name}: {report}"));
    assert_eq!((status, number("/questions"), number("/max_new_tokens")), (200, 3.0, 5.0));
    assert!((3.0..=15.0).contains(&number("/new_tokens")) && number("/prompt_tokens") > 50.0, "{report}");
    let rate = number("/new_tokens") / number("/elapsed_ms") * 1000.0;
    assert!((rate - number("/tokens_per_second")).abs() < 1e-6 * rate, "{report}");
    for times in ["/time_to_first_token_ms", "/token_ms"] {
        let [p50, p90, p99] = ["p50", "p90", "p99"].map(|name| number(&format!("{times}/{name}")));
        assert!(0.0 < p50 && p50 <= p90 && p90 <= p99 && p99 <= number("/elapsed_ms"), "{report}");
    }
    // Tokens that come here in one go were not made in one.
    let (_, _, text) = server.ask("GET", "/bench?n=1&max_new_tokens=64", "", "");
    let alone: Value = serde_json::from_str(&text).expect("JSON");
    assert!(alone["token_ms"]["p50"].as_f64().expect("a time") > 0.01, "no processor makes a token in 10 µs: {alone}");
    for query in ["n=0", "n=65", "n=many", "max_new_tokens=1025"] {
        let (status, _, text) = server.ask("GET", &format!("/bench?{query}"), "", "");
        assert!(status == 400 && text.contains("expected a number from 1"), "{query}: {text}");
    }
}
