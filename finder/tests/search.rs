//! What a search finds and what it passes over, in folders that the test furnishes.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::path::Path;

use gptoss_finder::{Findings, Links, SearchOptions, search};
use tempfile::TempDir;

/// A folder with files of these names.
fn furnished(names: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        put(folder.path(), name, "GGUF");
    }
    folder
}

fn put(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn names(findings: &Findings) -> Vec<&str> {
    findings.files.iter().map(|file| file.name.as_str()).collect()
}

fn skipped(findings: &Findings) -> Vec<String> {
    findings.skipped.iter().map(|skipped| format!("{}: {}", skipped.name, skipped.reason)).collect()
}

fn find(folder: &Path, links: Links) -> Findings {
    search(folder, SearchOptions { links, depth: None }).unwrap()
}

#[test]
fn folders_are_searched_as_deep_as_said_in_any_letters() {
    let folder = furnished(&["a.gguf", "B.GGUF", "c.txt", "one/d.gguf", "one/two/e.GgUf", ".hidden/f.gguf", ".g.gguf"]);
    for (depth, expected) in [
        (Some(0), &["B.GGUF", "a.gguf"][..]),
        (Some(1), &["B.GGUF", "a.gguf", "one/d.gguf"][..]),
        (None, &["B.GGUF", "a.gguf", "one/d.gguf", "one/two/e.GgUf"][..]),
    ] {
        let findings = search(folder.path(), SearchOptions { depth, ..SearchOptions::default() }).unwrap();
        assert_eq!((names(&findings), skipped(&findings)), (expected.to_vec(), vec![]));
    }
    assert!(search(&folder.path().join("absent"), SearchOptions::default()).is_err());
    let deep = vec!["x"; 17].join("/") + "/m.gguf";
    put(folder.path(), &deep, "GGUF");
    assert!(skipped(&find(folder.path(), Links::Inside))[0].contains("more than 16 folders deep"));
}

#[test]
fn what_was_to_be_a_gguf_file_is_named() {
    let folder =
        furnished(&["a.gguf.part1of2", "b.gguf.crdownload", "c.gguf-split-a", "d.part", "e.zip", "f.GGUF.part"]);
    let findings = find(folder.path(), Links::Inside);
    assert_eq!(names(&findings), Vec::<&str>::new());
    let said = skipped(&findings);
    assert_eq!(said.len(), 4, "{said:?}");
    for (said, words) in said.iter().zip([
        "a.gguf.part1of2: by its name it is a piece of a.gguf",
        "b.gguf.crdownload: by its name it is a download",
        "c.gguf-split-a: by its name it is a piece of c.gguf",
        "f.GGUF.part: by its name it is a download",
    ]) {
        assert!(said.starts_with(words), "{said}");
    }
}

#[cfg(unix)]
#[test]
fn links_are_followed_inside_or_anywhere_and_the_rest_is_named() {
    use std::os::unix::fs::symlink;
    let outside = furnished(&["out.gguf", "folder/deep.gguf"]);
    let folder = furnished(&["blobs/abc", "m.gguf"]);
    let link = |target: &Path, name: &str| symlink(target, folder.path().join(name)).unwrap();
    link(&folder.path().join("blobs/abc"), "inside.gguf");
    link(&outside.path().join("out.gguf"), "leads-out.gguf");
    link(&outside.path().join("folder"), "linked");
    link(Path::new("/nowhere/x.gguf"), "dangling.gguf");
    link(Path::new("/nowhere/repo"), "models--a--b");
    link(folder.path(), "circle");
    link(Path::new("self.gguf"), "self.gguf");

    let inside = find(folder.path(), Links::Inside);
    assert_eq!(names(&inside), ["inside.gguf", "m.gguf"]);
    assert!(inside.files[0].target.ends_with("blobs/abc"));
    assert_eq!(inside.files[0].root.as_deref(), Some(folder.path().canonicalize().unwrap().as_path()));
    let said = skipped(&inside).join("\n");
    for words in [
        "leads-out.gguf: it is a link that leads out of the folder, to /",
        "linked: it is a link to a folder, /",
        "circle: it is a link to a folder, /",
        "dangling.gguf: it is a link to /nowhere/x.gguf, which does not exist",
        "models--a--b: it is a link to /nowhere/repo, which does not exist",
        "self.gguf: ",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(inside.skipped.iter().filter(|skipped| skipped.reason.is_unfollowed_link()).count(), 3);

    let anywhere = find(folder.path(), Links::Anywhere);
    assert_eq!(names(&anywhere), ["inside.gguf", "leads-out.gguf", "m.gguf", "linked/deep.gguf"]);
    assert!(anywhere.files.iter().all(|file| file.root.is_none()));
    let said = skipped(&anywhere).join("\n");
    assert!(
        said.contains("circle: it is a link to a folder that it lies in") && said.contains("dangling.gguf: "),
        "{said}"
    );
    assert!(!said.contains("leads out"), "{said}");
}

#[cfg(unix)]
#[test]
fn hub_repositories_are_known_by_name_also_where_they_are_links() {
    use std::os::unix::fs::symlink;
    let elsewhere = furnished(&["repo/blobs/abc", "store/def", "repo/snapshots/0123456789/plain.gguf"]);
    let repo = elsewhere.path().join("repo");
    symlink("../../blobs/abc", repo.join("snapshots/0123456789/m.gguf")).unwrap();
    // Deduplicated into a store that several caches share.
    symlink(elsewhere.path().join("store/def"), repo.join("snapshots/0123456789/shared.gguf")).unwrap();
    symlink("../../blobs/lost", repo.join("snapshots/0123456789/lost.gguf")).unwrap();
    put(elsewhere.path(), "repo/refs/main", "0123456789\n");
    let cache = tempfile::tempdir().unwrap();
    symlink(&repo, cache.path().join("models--org--name")).unwrap();

    assert!(skipped(&find(cache.path(), Links::Inside))[0].starts_with("models--org--name: it is a link to a folder"));
    let findings = find(cache.path(), Links::Anywhere);
    let labels: Vec<_> = findings.files.iter().filter_map(|file| file.label.as_deref()).collect();
    assert_eq!(labels, ["org/name/m.gguf", "org/name/plain.gguf", "org/name/shared.gguf"]);
    assert_eq!(findings.files[0].hub.as_ref().unwrap().revision, "0123456789");
    let said = skipped(&findings);
    assert!(said.len() == 1 && said[0].contains("lost.gguf: it is a link to ../../blobs/lost"), "{said:?}");
}

#[test]
fn ollamas_models_are_found_by_their_manifests() {
    let store = tempfile::tempdir().unwrap();
    let manifest = |digest: &str| {
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"x","digest":"sha256:c","size":1}},"layers":[
                {{"mediaType":"application/vnd.ollama.image.template","digest":"sha256:t","size":1}},
                {{"mediaType":"application/vnd.ollama.image.model","digest":"{digest}","size":4}}]}}"#
        )
    };
    let library = "manifests/registry.ollama.ai/library";
    put(store.path(), &format!("{library}/gpt-oss/20b"), &manifest("sha256:abc"));
    put(store.path(), &format!("{library}/gpt-oss/lost"), &manifest("sha256:def"));
    put(store.path(), &format!("{library}/gpt-oss/evil"), &manifest("sha256:../../../m"));
    put(store.path(), &format!("{library}/gpt-oss/odd"), "no JSON");
    put(store.path(), "manifests/registry.ollama.ai/someone/m/latest", &manifest("sha256:abc"));
    put(store.path(), "manifests/hf.co/org/m/Q4", &manifest("sha256:old"));
    put(store.path(), "blobs/sha256-abc", "GGUF");
    put(store.path(), "blobs/sha256:old", "GGUF");
    put(store.path(), "blobs/sha256-t", "a template");
    let findings = search(store.path(), SearchOptions { depth: Some(0), ..SearchOptions::default() }).unwrap();
    let labels: Vec<_> = findings.files.iter().filter_map(|file| file.label.as_deref()).collect();
    assert_eq!(labels, ["hf.co/org/m/Q4", "gpt-oss:20b", "someone/m:latest"]);
    assert!(findings.files[1].name == "blobs/sha256-abc" && findings.files[1].path.ends_with("blobs/sha256-abc"));
    let said = skipped(&findings).join("\n");
    for words in ["gpt-oss:lost: Ollama has not downloaded it", "gpt-oss:evil: ", "is no digest", "gpt-oss:odd: "] {
        assert!(said.contains(words), "{words}: {said}");
    }
}
