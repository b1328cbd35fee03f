//! `/api/models`: what the host that serves this page has to offer.

use serde::Deserialize;

/// The version of the answer that this page reads.
const CATALOG_VERSION: u32 = 1;

/// Where the host lists its models.
pub const CATALOG_PATH: &str = "/api/models";

/// One GGUF file on the host.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct HostedModel {
    pub id: String,
    pub name: String,
    /// Address of the file, absolute or relative to the page's host.
    pub file_url: String,
    pub size_bytes: u64,
    pub architecture: Option<String>,
    pub supported: bool,
    /// Why it is not supported.
    pub reason: Option<String>,
}

#[derive(Deserialize)]
struct Catalog {
    version: u32,
    models: Vec<HostedModel>,
}

/// Reads the answer; the error says what is wrong with it.
pub fn parse(json: &str) -> Result<Vec<HostedModel>, String> {
    let catalog: Catalog =
        serde_json::from_str(json).map_err(|error| format!("{CATALOG_PATH} cannot be read: {error}"))?;
    if catalog.version != CATALOG_VERSION {
        return Err(format!("{CATALOG_PATH} has version {}, this page reads {CATALOG_VERSION}", catalog.version));
    }
    Ok(catalog.models)
}

/// The model to offer first: the first that this engine runs.
pub fn first_supported(models: &[HostedModel]) -> Option<usize> {
    models.iter().position(|model| model.supported)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = r#"{"version":1,"models":[
        {"id":"a","name":"a.gguf","url":"/models/a","file_url":"/models/a/a.gguf","size_bytes":5,"architecture":"llama",
         "supported":false,"reason":"architecture llama"},
        {"id":"b","name":"b.gguf","url":"/models/b","file_url":"/models/b/b.gguf","size_bytes":3054208,
         "architecture":"gpt-oss","supported":true,"reason":null}]}"#;

    #[test]
    fn the_first_supported_model_is_chosen() {
        let models = parse(TWO).expect("well formed");
        assert_eq!(first_supported(&models), Some(1));
        assert_eq!(models[1].file_url, "/models/b/b.gguf");
        assert_eq!(models[0].reason.as_deref(), Some("architecture llama"));
        assert_eq!(first_supported(&models[..1]), None);
    }

    #[test]
    fn other_versions_and_other_answers_are_refused() {
        assert!(parse(&TWO.replace("\"version\":1", "\"version\":2")).expect_err("version").contains("version 2"));
        assert!(parse("<html>").expect_err("not JSON").contains("cannot be read"));
    }
}
