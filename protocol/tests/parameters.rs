//! `docs/parameters.md` says what the table of options says.

use std::path::Path;

use gptoss_protocol::options::document;

#[test]
fn the_document_is_that_of_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/parameters.md");
    let should = document();
    if std::env::var_os("UPDATE_DOCS").is_some_and(|value| !value.is_empty() && value != "0") {
        std::fs::write(&path, &should).expect("docs/ can be written");
    }
    let is = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = is.lines().zip(should.lines()).find(|(is, should)| is != should);
    assert!(
        is == should,
        "docs/parameters.md is not what the table of options says; first difference: {differs:?}\n\
         `UPDATE_DOCS=1 cargo test -p gptoss-protocol --test parameters` writes it"
    );
}
