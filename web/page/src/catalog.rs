//! `/api/models`: what the host that serves this page has to offer.

use serde::Deserialize;

/// The version of the answer that this page reads.
const CATALOG_VERSION: u32 = 1;

/// Path under which a gguf-serve lists its models.
pub const CATALOG_PATH: &str = "/api/models";

/// A GGUF file on the host, as its catalogue describes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct HostedModel {
    /// Id of the model in the catalogue.
    pub id: String,
    /// Name to show.
    pub name: String,
    /// Address of the file, absolute or relative to the page's host.
    pub file_url: String,
    /// Length in bytes, of all parts together.
    pub size_bytes: u64,
    /// `general.architecture`, if the header could be read.
    pub architecture: Option<String>,
    /// Whether this engine runs the model.
    pub supported: bool,
    /// Why the model is not supported, in words.
    pub reason: Option<String>,
}

#[derive(Deserialize)]
struct Catalog {
    version: u32,
    models: Vec<HostedModel>,
}

/// Reads the catalogue; the error says what is wrong with it.
pub fn parse(json: &str) -> Result<Vec<HostedModel>, String> {
    let catalog: Catalog =
        serde_json::from_str(json).map_err(|error| format!("{CATALOG_PATH} cannot be read: {error}"))?;
    if catalog.version != CATALOG_VERSION {
        return Err(format!("{CATALOG_PATH} has version {}, this page reads {CATALOG_VERSION}", catalog.version));
    }
    Ok(catalog.models)
}

/// Index of the model to offer first: the first that this engine runs.
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
