//! Addresses of pages about files, which people copy in place of the files' own: every hub shows a file under one
//! address and gives it under another.

use crate::SourceError;

/// Hosts whose pages lie at `/blob/` and whose files at `/resolve/`.
const HUGGING_FACE: [&str; 4] = ["huggingface.co", "hf.co", "hf-mirror.com", "huggingface.com"];
const MODEL_SCOPE: [&str; 2] = ["modelscope.cn", "modelscope.ai"];

/// Refuses an address that is known to lead to a page about a file, and names the file's own address.
///
/// # Errors
/// [`SourceError::PageAddress`].
pub fn check_not_a_page(url: &str) -> Result<(), SourceError> {
    match file_of_page(url) {
        None => Ok(()),
        Some(file_url) => Err(SourceError::PageAddress { url: url.to_owned(), file_url }),
    }
}

/// The address of the file that a page of a known hub is about; the inner `None` means that the page is about no single
/// file. `None` for every other address.
#[expect(clippy::option_option, reason = "both kinds of absence are told apart, see above")]
fn file_of_page(url: &str) -> Option<Option<String>> {
    let address = Address::of(url)?;
    let host = address.host.strip_prefix("www.").unwrap_or(&address.host);
    let path: Vec<&str> = address.path.split('/').filter(|part| !part.is_empty()).collect();
    let at = |place: usize| path.get(place).copied();
    let with = |path: &[&str]| Some(format!("{}/{}", address.origin, path.join("/")));
    if HUGGING_FACE.contains(&host) {
        // Data sets and spaces have a word before the owner's name.
        let first = usize::from(matches!(at(0), Some("datasets" | "spaces" | "models")));
        return match at(first + 2) {
            Some("blob" | "raw") if path.len() > first + 4 => Some(with(&replaced(&path, first + 2, "resolve"))),
            None | Some("tree" | "blob" | "raw" | "discussions" | "commits") => Some(None),
            Some(_) => None,
        };
    }
    if MODEL_SCOPE.contains(&host) && at(0) == Some("models") {
        return match (at(3), at(4)) {
            // /models/OWNER/NAME/file/view/REVISION/PATH?…
            (Some("file"), Some("view")) if path.len() > 6 => {
                Some(with(&[&path[..3], &["resolve"], &path[5..]].concat()))
            }
            (Some("resolve"), _) => None,
            _ => Some(None),
        };
    }
    match (host, at(2), at(3)) {
        ("github.com", Some("blob"), _) if path.len() > 4 => {
            Some(Some(format!("https://raw.githubusercontent.com/{}", [&path[..2], &path[3..]].concat().join("/"))))
        }
        ("github.com", Some("tree") | None, _) => Some(None),
        ("gitee.com", Some("blob"), _) if path.len() > 4 => Some(with(&replaced(&path, 2, "raw"))),
        (_, Some("-"), Some("blob")) | (_, Some("src"), Some("branch" | "commit" | "tag")) if path.len() > 5 => {
            // GitLab and Gitea, wherever they run.
            let place = if at(2) == Some("-") { 3 } else { 2 };
            Some(with(&replaced(&path, place, "raw")))
        }
        _ => None,
    }
}

/// Where the file that a page is about may be, by the habit of hubs: the address with `/resolve/` in place of `/blob/`.
/// `None` for an address without `/blob/`.
pub(crate) fn guessed_file(url: &str) -> Option<String> {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    url[..end].contains("/blob/").then(|| url[..end].replacen("/blob/", "/resolve/", 1))
}

fn replaced<'p>(path: &[&'p str], place: usize, word: &'p str) -> Vec<&'p str> {
    path.iter().enumerate().map(|(index, part)| if index == place { word } else { part }).collect()
}

/// An http or https address, taken apart.
struct Address<'u> {
    /// Scheme and authority.
    origin: &'u str,
    /// The host in lower case, without a port.
    host: String,
    path: &'u str,
}

impl<'u> Address<'u> {
    fn of(url: &'u str) -> Option<Self> {
        let url = url.trim();
        let begin = url.find("://")? + 3;
        let path_begin = url[begin..].find(['/', '?', '#']).map_or(url.len(), |at| begin + at);
        let path_end = url[path_begin..].find(['?', '#']).map_or(url.len(), |at| path_begin + at);
        let authority = url[begin..path_begin].rsplit('@').next()?;
        let host = authority.split(':').next()?.to_ascii_lowercase();
        Some(Self { origin: &url[..path_begin], host, path: &url[path_begin..path_end] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_hubs_name_the_file() {
        for (page, file) in [
            ("https://huggingface.co/O/R/blob/main/x.gguf", "https://huggingface.co/O/R/resolve/main/x.gguf"),
            ("HTTPS://HuggingFace.co/O/R/blob/main/x.gguf", "HTTPS://HuggingFace.co/O/R/resolve/main/x.gguf"),
            ("https://www.huggingface.co/O/R/blob/main/x.gguf", "https://www.huggingface.co/O/R/resolve/main/x.gguf"),
            (
                "https://huggingface.co/O/R/blob/refs%2Fpr%2F1/Q8/x.gguf?download=true#L1",
                "https://huggingface.co/O/R/resolve/refs%2Fpr%2F1/Q8/x.gguf",
            ),
            ("https://huggingface.co/O/R/raw/main/x.gguf", "https://huggingface.co/O/R/resolve/main/x.gguf"),
            (
                "https://huggingface.co/datasets/O/R/blob/main/x.gguf",
                "https://huggingface.co/datasets/O/R/resolve/main/x.gguf",
            ),
            ("https://hf.co/O/R/blob/main/x.gguf", "https://hf.co/O/R/resolve/main/x.gguf"),
            ("https://hf-mirror.com/O/R/blob/main/x.gguf", "https://hf-mirror.com/O/R/resolve/main/x.gguf"),
            (
                "https://www.modelscope.cn/models/O/R/file/view/master/x.gguf?status=2",
                "https://www.modelscope.cn/models/O/R/resolve/master/x.gguf",
            ),
            ("https://github.com/O/R/blob/main/d/x.gguf", "https://raw.githubusercontent.com/O/R/main/d/x.gguf"),
            ("https://gitlab.com/O/R/-/blob/main/x.gguf", "https://gitlab.com/O/R/-/raw/main/x.gguf"),
            ("https://gitee.com/O/R/blob/master/x.gguf", "https://gitee.com/O/R/raw/master/x.gguf"),
            ("https://codeberg.org/O/R/src/branch/main/x.gguf", "https://codeberg.org/O/R/raw/branch/main/x.gguf"),
        ] {
            assert_eq!(file_of_page(page), Some(Some(file.to_owned())), "{page}");
            let error = check_not_a_page(page).expect_err("refused").to_string();
            assert!(error.contains(page) && error.contains(file), "{error}");
        }
    }

    #[test]
    fn pages_about_no_single_file_are_refused_too() {
        for page in [
            "https://huggingface.co/O/R",
            "https://huggingface.co/O/R/tree/main",
            "https://huggingface.co/O/R/blob/main",
            "https://hf.co/O",
            "https://modelscope.cn/models/O/R/summary",
            "https://github.com/O/R",
        ] {
            assert_eq!(file_of_page(page), Some(None), "{page}");
        }
    }

    #[test]
    fn files_and_unknown_hosts_are_left_alone() {
        for file in [
            "https://huggingface.co/O/R/resolve/main/x.gguf",
            "https://huggingface.co/datasets/O/R/resolve/main/blob/x.gguf",
            "https://cdn-lfs.huggingface.co/repos/a/b/blob",
            "https://modelscope.cn/models/O/R/resolve/master/x.gguf",
            "https://raw.githubusercontent.com/O/R/main/x.gguf",
            "https://github.com/O/R/raw/main/x.gguf",
            "https://github.com/O/R/releases/download/v1/x.gguf",
            "http://127.0.0.1:8090/O/R/blob/main/x.gguf",
            "https://account.blob.core.windows.net/models/x.gguf",
            "http://huggingface.co.example.org/O/R/blob/main/x.gguf",
            "not a url",
        ] {
            assert_eq!(file_of_page(file), None, "{file}");
        }
        let guess = guessed_file("http://h/O/R/blob/main/x.gguf?token=secret");
        assert_eq!(guess.as_deref(), Some("http://h/O/R/resolve/main/x.gguf"));
        assert_eq!(guessed_file("http://h/x.gguf?next=/blob/"), None);
    }
}
