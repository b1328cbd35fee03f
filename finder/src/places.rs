//! Where tools and people keep models.

use std::path::PathBuf;

use crate::hub::hub_folder;

/// A folder to look through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What messages call the place, such as `hub cache`.
    pub name: &'static str,
    /// Path of the folder, which need not exist.
    pub folder: PathBuf,
    /// How many levels of folders below it are looked into.
    pub depth: u32,
}

/// All places, whether they exist or not, in the order in which people mean them: the current folder and `models` in
/// it, then those of the hub, LM Studio, Ollama and llama.cpp, each by the variables that the tool itself reads, and
/// `~/models`. `variable` reads the environment; empty values count as unset.
pub fn places(variable: impl Fn(&str) -> Option<PathBuf>) -> Vec<Place> {
    let set = |name: &str| variable(name).filter(|value| !value.as_os_str().is_empty());
    let home = set("HOME").or_else(|| set("USERPROFILE"));
    let in_home = |path: &str| home.as_ref().map(|home| home.join(path));
    let mut places = Places::default();
    places.add("current folder", Some(".".into()), 0);
    places.add("models here", Some("models".into()), 2);
    // A model of the hub lies at models--{owner}--{name}/snapshots/{commit}/{file}, files in folders one deeper.
    places.add("hub cache", hub_folder(&variable), 4);
    // {publisher}/{repository}/{file}.
    places.add("LM Studio", in_home(".lmstudio/models"), 3);
    places.add("LM Studio", in_home(".cache/lm-studio/models"), 3);
    match set("OLLAMA_MODELS") {
        Some(folder) => places.add("Ollama", Some(folder), 0),
        None => {
            places.add("Ollama", in_home(".ollama/models"), 0);
            // The folder of Ollama's service on Linux.
            places.add("Ollama", cfg!(target_os = "linux").then(|| "/usr/share/ollama/.ollama/models".into()), 0);
        }
    }
    let llama_cpp = set("LLAMA_CACHE").or_else(|| {
        let cache = match () {
            () if cfg!(target_os = "macos") => in_home("Library/Caches"),
            () if cfg!(windows) => set("LOCALAPPDATA"),
            () => set("XDG_CACHE_HOME").or_else(|| in_home(".cache")),
        };
        Some(cache?.join("llama.cpp"))
    });
    places.add("llama.cpp cache", llama_cpp, 0);
    places.add("~/models", in_home("models"), 3);
    places.0
}

#[derive(Default)]
struct Places(Vec<Place>);

impl Places {
    fn add(&mut self, name: &'static str, folder: Option<PathBuf>, depth: u32) {
        self.0.extend(folder.map(|folder| Place { name, folder, depth }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(variables: &[(&str, &str)], name: &str) -> Vec<PathBuf> {
        let variable = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        places(variable).into_iter().filter(|place| place.name == name).map(|place| place.folder).collect()
    }

    #[test]
    fn every_tool_is_looked_for_where_its_own_variables_say() {
        let home = ("HOME", "/u");
        let of = |name: &str, more: &[(&'static str, &'static str)]| folders(&[&[home], more].concat(), name);
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(of("hub cache", &[]), paths(&["/u/.cache/huggingface/hub"]));
        assert_eq!(of("hub cache", &[("XDG_CACHE_HOME", "/x")]), paths(&["/x/huggingface/hub"]));
        assert_eq!(of("LM Studio", &[]), paths(&["/u/.lmstudio/models", "/u/.cache/lm-studio/models"]));
        assert_eq!(of("Ollama", &[])[0], PathBuf::from("/u/.ollama/models"));
        assert_eq!(of("Ollama", &[("OLLAMA_MODELS", "/o")]), paths(&["/o"]));
        assert_eq!(of("llama.cpp cache", &[("LLAMA_CACHE", "/l")]), paths(&["/l"]));
        #[cfg(target_os = "linux")]
        {
            assert_eq!(of("llama.cpp cache", &[]), paths(&["/u/.cache/llama.cpp"]));
            assert_eq!(of("llama.cpp cache", &[("XDG_CACHE_HOME", "/x")]), paths(&["/x/llama.cpp"]));
        }
        assert_eq!(of("~/models", &[("LLAMA_CACHE", "")]), paths(&["/u/models"]));
        assert_eq!(folders(&[], "~/models"), Vec::<PathBuf>::new(), "without a home there is none");
    }
}
