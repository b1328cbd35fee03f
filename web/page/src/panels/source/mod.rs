//! What is known of the model that LOAD would load, before it is pressed.

use crate::cache::DownloadCache;
use crate::format;
use crate::view::{Node, element};

/// Facts about the file at `address`, an absolute one; empty where the browser says nothing.
pub fn facts(cache: &DownloadCache, address: &str) -> Vec<Node> {
    let Some(report) = &cache.report else { return Vec::new() };
    let contents = report.models.iter().filter_map(|model| model.contents.as_ref());
    let cached = contents.into_iter().find(|contents| contents.url == address);
    let in_browser = match cached {
        Some(contents) if contents.stored_bytes >= contents.file_bytes => "all of it".to_owned(),
        Some(contents) => {
            format!("{} of {}", format::bytes(contents.stored_bytes), format::bytes(contents.file_bytes))
        }
        None => "nothing yet".to_owned(),
    };
    let mut facts = vec![fact("In this browser", in_browser, cached.is_some())];
    if let (Some(usage), Some(quota)) = (report.usage_bytes, report.quota_bytes) {
        facts.push(fact("Room for more", format::bytes(quota.saturating_sub(usage)), false));
    }
    facts
}

fn fact(name: &str, value: String, good: bool) -> Node {
    let value = element("dd").flag("data-good", good).text(value);
    element("div").child(element("dt").text(name)).child(value).into()
}

#[cfg(test)]
mod tests {
    use gptoss_protocol::{CacheReport, CachedContents, CachedModel};

    use super::*;

    fn cache(url: &str, stored_bytes: u64) -> DownloadCache {
        let contents = CachedContents {
            url: url.to_owned(),
            file_bytes: 12_110_000_000,
            stored_bytes,
            chunks: 2,
            stored_chunks: 1,
            verified_chunks: 0,
        };
        let disk_bytes = stored_bytes;
        let model =
            CachedModel { id: "1".into(), contents: Some(contents), disk_bytes, written_ms: 0.0, in_use: false };
        let report = CacheReport {
            models: vec![model],
            usage_bytes: Some(4_000_000_000),
            quota_bytes: Some(64_000_000_000),
            ..CacheReport::default()
        };
        DownloadCache { report: Some(report), ..DownloadCache::default() }
    }

    fn text(cache: &DownloadCache, address: &str) -> String {
        facts(cache, address).iter().map(Node::to_html).collect()
    }

    #[test]
    fn what_is_cached_of_the_chosen_file_is_said_before_anything_is_pressed() {
        let part = cache("http://h/m.gguf", 3_360_000_000);
        let shown = text(&part, "http://h/m.gguf");
        assert!(shown.contains("3.36 GB of 12.1 GB") && shown.contains("data-good"), "{shown}");
        assert!(shown.contains("60.0 GB"), "{shown}");
        let all = text(&cache("http://h/m.gguf", 12_110_000_000), "http://h/m.gguf");
        assert!(all.contains("all of it"), "{all}");
        let other = text(&part, "http://h/other.gguf");
        assert!(other.contains("nothing yet") && !other.contains("data-good"), "{other}");
        assert_eq!(text(&DownloadCache::default(), "http://h/m.gguf"), "", "the browser has not said yet");
    }
}
